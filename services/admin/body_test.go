package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Bodies that are not understood change nothing.
func TestBodies(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	for body, want := range map[string]int{
		``: 400, `{`: 400, `[]`: 400, `"x"`: 400, `{"name":"x","role":"viewer"} x`: 400,
		`{"name":"x","role":"viewer","admin":true}`: 400, `{"name":"x","role":"viewer","role":"admin"}`: 400,
		`{"NAME":"x","role":"viewer"}`: 400, `{"name":"x","Role":"viewer"}`: 400, `{"name":1,"role":"viewer"}`: 400,
		strings.Repeat("[", 20000): 400, strings.Repeat(`{"name":`, 5000): 400, "\xff": 400, "null": 422,
		`{"name":"x","role":"root"}`: 422, `{"name":"","role":"viewer"}`: 422,
		`{"name":"<script>","role":"viewer"}`: 422, `{"name":"x"}`: 422,
		`{"name":"` + strings.Repeat("x", 65) + `","role":"viewer"}`: 422, `{"name":"` +
			strings.Repeat("x", maxBody) + `"}`: 413,
	} {
		if a := b.call("POST", "api/users", body); a.status != want || !json.Valid([]byte(a.body)) ||
			strings.Contains(a.body, "Go ") || strings.Contains(a.body, "struct") {
			t.Errorf("%.60s: got %d %s, want %d", body, a.status, a.body, want)
		}
	}
}

// What is wrong with a member is said in JSON's words.
func TestBodiesAreWorded(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	for body, want := range map[string]string{
		`{"name":1,"channels":["a"]}`:                "name: want a string, got a JSON number",
		`{"name":"x","channels":"a"}`:                "channels: want an array, got a JSON string",
		`{"name":"x","channels":["a"],"rate":"5"}`:   "rate: want a number, got a JSON string",
		`{"name":"x","channels":["a"],"rate":1e999}`: "the number 1e999",
		`[]`:                                     "want a JSON object, got a JSON array",
		`{"name":"x","channels":["a"],"Rate":5}`: "known are name, channels, scopes, rate, expires",
		`{"name":"x","channels":["a"],"name":"y"}`:             "twice",
		`{"name":"a\u202eb","channels":["a"]}`:                 "cannot be seen",
		`{"name":" a","channels":["a"]}`:                       "begins or ends with a space",
		`{"name":"x","channels":["a","b","a"]}`:                "a is there twice",
		`{"name":"x","channels":["a"],"scopes":["publish",1]}`: "scopes",
	} {
		if a := b.call("POST", "api/keys", body); a.status < 400 || a.status > 422 || !strings.Contains(a.body, want) {
			t.Errorf("%s: got %d %s, want %s", body, a.status, a.body, want)
		}
	}
	if a := b.call("POST", "api/apps", `{"name":"a\u200bb"}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("an app whose name is not seen: got %d %s", a.status, a.body)
	}
	me := "api/users/" + c.user
	if a := b.call("PUT", me, `{"password":{"old":"a","new":"b","New":"c"}}`); a.status != http.StatusBadRequest ||
		!strings.Contains(a.body, "password.New") {
		t.Errorf("a member of a member: got %d %s", a.status, a.body)
	}
	if keys := b.keys(); len(keys) != 0 {
		t.Errorf("made: %v", keys)
	}
}

// A body that is packed, or that says so, is refused as the API refuses it, whatever it would say.
func TestPackedBodies(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	b.header.Set("Content-Encoding", "gzip")
	for path, body := range map[string]string{"api/publish": `{"channel":"a","data":1}`, "api/keys": `{"name":"x"}`} {
		if a := b.call("POST", path, body); a.status != http.StatusUnsupportedMediaType ||
			!strings.Contains(a.body, "gzip") {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	b.header.Set("Content-Encoding", "identity")
	b.want(http.StatusUnprocessableEntity, "POST", "api/keys", `{"name":"x"}`)
}

// Calls without parameters take none, and HEAD is GET without the body.
func TestParametersAndHead(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	for _, path := range []string{"api/session", "api/keys", "api/users", "api/login"} {
		b.want(http.StatusBadRequest, "GET", path+"?x=1", nil)
		if a := b.want(http.StatusOK, "HEAD", path, nil); a.body != "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("HEAD %s: got %q, %v", path, a.body, a.header)
		}
	}
	b.want(http.StatusBadRequest, "POST", "api/users?name=eve", map[string]string{"name": "eve", "role": "viewer"})
	c.browser().want(http.StatusUnauthorized, "HEAD", "api/users", nil)
	if len(b.users()) != 1 {
		t.Errorf("got %v", b.users())
	}
}
