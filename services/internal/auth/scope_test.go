package auth_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/auth"
)

func TestParseScopes(t *testing.T) {
	for words, want := range map[string]string{
		"publish": "ok", "publish,history,log,admin": "ok", "log": "ok",
		"": "may do nothing", "publish,publish": "twice",
		"Publish": `"Publish"; want some of publish,history,log,admin`, "all": `"all"`, "publish,": `""`,
	} {
		var list []string
		if words != "" {
			list = strings.Split(words, ",")
		}
		got, err := auth.ParseScopes(list)
		if want == "ok" {
			if err != nil || auth.JoinScopes(got) != words {
				t.Errorf("%q: got %v, %v", words, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", words, err, want)
		}
	}
}

// What a stored key may do: one from before there were scopes may do everything
// on its channels, one that names none is damaged, and a scope of a later
// version allows nothing.
func TestScopesOfStoredKeys(t *testing.T) {
	full := newKey(t, "first-secret-of-shop", "shop")
	stored, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	for may, want := range map[string]string{
		``: "publish,history,log,admin everything", `"may":["publish"],`: "publish",
		`"may":["log","admin"],`:                     "log,admin",
		`"may":["publish","teleport"],`:              "publish",
		`"may":["publish","history","log","admin"],`: "publish,history,log,admin everything", `"may":[],`: "damaged",
	} {
		text := strings.Replace(strings.Replace(string(stored), `"may":["publish","history","log","admin"],`, "", 1),
			`"channels"`, may+`"channels"`, 1)
		var k auth.Key
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			t.Fatal(err)
		}
		var r auth.Ring
		if err := r.Put(k); err != nil {
			if want != "damaged" {
				t.Errorf("%s: %v", may, err)
			}
			continue
		}
		g, err := r.Authenticate("first-secret-of-shop", noon)
		if err != nil {
			t.Fatal(err)
		}
		var can []auth.Scope
		for _, s := range auth.Scopes {
			if g.Can(s) {
				can = append(can, s)
			}
		}
		got := auth.JoinScopes(can)
		if g.Everything() {
			got += " everything"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", may, got, want)
		}
	}
	full.Channels = []string{"orders.>", "*"}
	var r auth.Ring
	if err := r.Put(full); err != nil {
		t.Fatal(err)
	}
	if g, err := r.Authenticate("first-secret-of-shop", noon); err != nil || g.Everything() {
		t.Errorf("some channels: got everything, or %v", err)
	}
	if (&auth.Principal{Channels: []string{">"}}).Can(auth.Publish) {
		t.Error("a principal that is no key may publish")
	}
}
