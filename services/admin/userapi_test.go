package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/users"
)

type userRow struct {
	Name      string     `json:"name"`
	Role      users.Role `json:"role"`
	Via       string     `json:"via"`
	Created   time.Time  `json:"created"`
	LastLogin time.Time  `json:"last_login"`
	Damaged   bool       `json:"damaged"`
}

func (b *browser) users() map[string]userRow {
	b.t.Helper()
	var list struct{ Rows []userRow }
	b.want(http.StatusOK, "GET", "api/users", nil).json(b.t, &list)
	by := map[string]userRow{}
	for _, u := range list.Rows {
		by[u.Name] = u
	}
	return by
}

func TestUsers(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	var made struct{ Password string }
	b.want(http.StatusOK, "POST", "api/users", map[string]string{"name": "anna@example.com",
		"role": "operator"}).json(t,
		&made)
	b.want(http.StatusConflict, "POST", "api/users", map[string]string{"name": "Anna@example.com", "role": "viewer"})
	anna := c.login("ANNA@example.com", made.Password)
	if u := b.users()["anna@example.com"]; u.Role != users.Operator || u.Via != "password" || u.Created.IsZero() ||
		u.LastLogin.IsZero() {
		t.Errorf("got %+v", u)
	}

	// A role counts from the next call on.
	b.want(http.StatusOK, "PUT", "api/users/anna@example.com", map[string]string{"role": "admin"})
	anna.want(http.StatusOK, "GET", "api/users", nil)
	b.want(http.StatusOK, "PUT", "api/users/anna%40example.com", map[string]string{"role": "viewer"})
	anna.want(http.StatusForbidden, "GET", "api/users", nil)

	// Who chooses a password needs the old one; all other sessions end.
	other := c.login("anna@example.com", made.Password)
	chosen := "correct horse battery"
	path := "api/users/anna@example.com"
	for body, want := range map[string]int{
		`{"password":{"old":"wrong","new":"correct horse battery"}}`:        422,
		`{"password":{"old":"` + made.Password + `","new":"short"}}`:        422,
		`{"password":{"old":"` + made.Password + `","new":"aaaaaaaaaaaa"}}`: 422,
		`{"role":"admin"}`: 403, `{"reset":true}`: 403, `{}`: 422, `{"role":"admin","reset":true}`: 422,
	} {
		if a := anna.call("PUT", path, body); a.status != want {
			t.Errorf("%s: got %d %s, want %d", body, a.status, a.body, want)
		}
	}
	anna.want(http.StatusForbidden, "PUT", "api/users/admin",
		map[string]any{"password": map[string]string{"old": c.password, "new": chosen}})
	var s sessionAnswer
	anna.want(http.StatusOK, "PUT", path,
		map[string]any{"password": map[string]string{"old": made.Password, "new": chosen}}).json(t, &s)
	anna.csrf = s.CSRF
	anna.want(http.StatusOK, "GET", "api/session", nil)
	if a := other.want(http.StatusUnauthorized, "GET", "api/session", nil); !strings.Contains(a.body,
		"the password was changed") {
		t.Errorf("got %s", a.body)
	}
	c.login("anna@example.com", chosen)
	c.browser().want(http.StatusUnauthorized, "POST", "api/login", map[string]string{"user": "anna@example.com",
		"password": made.Password})

	// Reset by an admin.
	b.want(http.StatusOK, "PUT", path, map[string]any{"reset": true}).json(t, &made)
	anna.want(http.StatusUnauthorized, "GET", "api/session", nil)
	anna = c.login("anna@example.com", made.Password)

	// Removed: the session ends with the user.
	b.want(http.StatusNoContent, "DELETE", path, nil)
	if a := anna.want(http.StatusUnauthorized, "GET", "api/session", nil); !strings.Contains(a.body, "removed") {
		t.Errorf("got %s", a.body)
	}
	b.want(http.StatusNotFound, "DELETE", path, nil)
	b.want(http.StatusNotFound, "PUT", path, map[string]any{"reset": true})

	// The last admin stays.
	b.want(http.StatusConflict, "DELETE", "api/users/admin", nil)
	b.want(http.StatusConflict, "PUT", "api/users/admin", map[string]string{"role": "viewer"})

	want := []string{"user.remove", "login", "user.reset", "login.refused", "login", "user.password", "login",
		"user.role", "user.role", "login", "user.add", "login"}
	if got := c.audited(); !slices.Equal(got, want) {
		t.Errorf("audit: got %v, want %v", got, want)
	}
	a := b.want(http.StatusOK, "GET", "api/audit?action=user.role&limit=1", nil)
	var page struct {
		Rows []map[string]any
		Next string
	}
	a.json(t, &page)
	if len(page.Rows) != 1 || page.Rows[0]["user"] != "admin" || page.Rows[0]["target"] != "anna@example.com" ||
		page.Rows[0]["address"] != "127.0.0.1" ||
		page.Rows[0]["before"].(map[string]any)["role"] != "admin" ||
		page.Rows[0]["after"].(map[string]any)["role"] != "viewer" || page.Next == "" {
		t.Errorf("audit: got %s", a.body)
	}
	b.want(http.StatusOK, "GET", "api/audit?action=user.role&limit=1&cursor="+page.Next, nil).json(t, &page)
	if len(page.Rows) != 1 || page.Rows[0]["after"].(map[string]any)["role"] != "admin" {
		t.Errorf("second page: got %v", page.Rows)
	}
	for _, query := range []string{"cursor=x", "cursor=0", "limit=0", "limit=501", "limit=x", "nothing=1",
		"user=a&user=b"} {
		b.want(http.StatusBadRequest, "GET", "api/audit?"+query, nil)
	}
	all := b.want(http.StatusOK, "GET", "api/audit", nil).body
	for _, secret := range []string{c.password, made.Password, chosen, "argon2", b.csrf, b.cookies[0].Value} {
		if strings.Contains(all, secret) {
			t.Errorf("the audit has a secret: %s", all)
		}
	}
}

// An entry that somebody damaged opens no door, and can be removed.
func TestDamagedUser(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	kv, err := c.js.KeyValue(context.Background(), users.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	// The digest of admin's under another name, a digest that takes gigabytes, no JSON.
	entry, err := kv.Get(context.Background(), "user.YWRtaW4") // admin
	if err != nil {
		t.Fatal(err)
	}
	greedy := `{"name":"greedy","role":"admin","via":"password","epoch":"x","digest":"$argon2id$v=19$m=4194304,t=10,` +
		`p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	// eve, greedy, x
	for key, value := range map[string]string{"user.ZXZl": string(entry.Value()), "user.Z3JlZWR5": greedy,
		"user.eA": "{"} {
		if _, err := kv.Put(context.Background(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for name, password := range map[string]string{"eve": c.password, "greedy": "x", "x": "x"} {
		c.browser().want(http.StatusUnauthorized, "POST", "api/login",
			map[string]string{"user": name, "password": password})
	}
	if list := b.users(); !list["eve"].Damaged || !list["x"].Damaged || list["admin"].Damaged {
		t.Errorf("got %v", list)
	}
	b.want(http.StatusNoContent, "DELETE", "api/users/eve", nil)
	b.want(http.StatusNoContent, "DELETE", "api/users/x", nil)
	if list := b.users(); len(list) != 2 {
		t.Errorf("got %v", list)
	}
}
