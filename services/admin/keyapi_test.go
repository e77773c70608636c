package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
)

func (b *browser) keys() map[string]keyRow {
	b.t.Helper()
	var list struct{ Rows []keyRow }
	b.want(http.StatusOK, "GET", "api/keys", nil).json(b.t, &list)
	by := map[string]keyRow{}
	for _, k := range list.Rows {
		by[k.ID] = k
	}
	return by
}

// opens reports whether the stored keys let a secret in, as ingest would.
func (c *console) opens(secret string) bool {
	c.t.Helper()
	store, err := keystore.Open(context.Background(), c.js)
	if err != nil {
		c.t.Fatal(err)
	}
	list, err := store.List(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	var ring auth.Ring
	for _, k := range list {
		if !k.Damaged {
			if err := ring.Put(k.Key); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	_, err = ring.Authenticate(secret, time.Now())
	return err == nil
}

func TestKeys(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	if rows := b.keys(); len(rows) != 0 {
		t.Fatalf("got %v", rows)
	}
	var made, rotated keyAnswer
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	b.want(http.StatusOK, "POST", "api/keys", map[string]any{"name": "shop", "channels": []string{"orders.>"},
		"scopes": []string{"publish", "log"}, "rate": 50, "expires": tomorrow}).json(t, &made)
	row := b.keys()[made.Key.ID]
	if !c.opens(made.Secret) || row.Name != "shop" || !slices.Equal(row.Channels, []string{"orders.>"}) ||
		!slices.Equal(row.Scopes, []auth.Scope{auth.Publish, auth.Log}) ||
		row.Rate != 50 || row.Expires.Format(time.RFC3339) != tomorrow || row.Created.IsZero() || row.Expired ||
		row.Damaged {
		t.Errorf("got %+v", row)
	}
	for name, body := range map[string]any{
		"a name that is there": map[string]any{"name": "shop", "channels": []string{">"}},
		"env":                  map[string]any{"name": "env", "channels": []string{">"}},
	} {
		if a := b.call("POST", "api/keys", body); a.status != http.StatusConflict {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	for want, body := range map[string]any{
		"name":                 map[string]any{"name": "", "channels": []string{">"}},
		"control character":    map[string]any{"name": "a\"b", "channels": []string{">"}},
		"at least one channel": map[string]any{"name": "x"},
		"orders..eu":           map[string]any{"name": "x", "channels": []string{"orders..eu"}},
		"scopes: ": map[string]any{"name": "x", "channels": []string{">"},
			"scopes": []string{"everything"}},
		"a key that may do nothing":  map[string]any{"name": "x", "channels": []string{">"}, "scopes": []string{}},
		"rate: ":                     map[string]any{"name": "x", "channels": []string{">"}, "rate": -1},
		"expires: 2020-01-01 is ove": map[string]any{"name": "x", "channels": []string{">"}, "expires": "2020-01-01"},
		"expires: want a time":       map[string]any{"name": "x", "channels": []string{">"}, "expires": "soon"},
	} {
		if a := b.call("POST", "api/keys", body); a.status != http.StatusUnprocessableEntity ||
			!strings.Contains(a.body, want) {
			t.Errorf("want %q: got %d %s", want, a.status, a.body)
		}
	}

	// Rotated with overlap, then without.
	b.want(http.StatusOK, "POST", "api/keys/"+made.Key.ID+"/rotate", map[string]any{"grace_seconds": 3600}).json(
		t, &rotated)
	if !c.opens(made.Secret) || !c.opens(rotated.Secret) || rotated.Key.Name != "shop" || rotated.Key.Rate != 50 ||
		rotated.Warning != "" {
		t.Errorf("rotated: got %+v", rotated)
	}
	if old := b.keys()[made.Key.ID]; time.Until(old.Expires) > time.Hour || old.Expired {
		t.Errorf("the old key: got %+v", old)
	}
	b.want(http.StatusOK, "POST", "api/keys/"+made.Key.ID+"/rotate", map[string]any{"grace_seconds": 0})
	if c.opens(made.Secret) || !b.keys()[made.Key.ID].Expired {
		t.Error("the old key still opens")
	}
	for _, grace := range []float64{-1, 1e12} {
		b.want(http.StatusUnprocessableEntity, "POST", "api/keys/"+made.Key.ID+"/rotate",
			map[string]any{"grace_seconds": grace})
	}
	b.want(http.StatusNoContent, "DELETE", "api/keys/"+rotated.Key.ID, nil)
	if c.opens(rotated.Secret) {
		t.Error("the revoked key still opens")
	}
	b.want(http.StatusNotFound, "DELETE", "api/keys/"+rotated.Key.ID, nil)
	b.want(http.StatusNotFound, "DELETE", "api/keys/shop", nil) // a name is no id
	b.want(http.StatusNotFound, "POST", "api/keys/shop/rotate", map[string]any{})

	all := b.want(http.StatusOK, "GET", "api/keys", nil).body + b.want(http.StatusOK, "GET", "api/audit", nil).body
	for _, secret := range []string{made.Secret, rotated.Secret, "digest"} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret is shown again: %s", all)
		}
	}
	if got := c.audited(); !slices.Equal(got, []string{"key.revoke", "key.rotate", "key.rotate", "key.add", "login"}) {
		t.Errorf("audit: got %v", got)
	}
}

// A damaged entry is shown, cannot be rotated, and can be revoked.
func TestDamagedKey(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	kv, err := c.js.KeyValue(context.Background(), keystore.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(context.Background(), "key.deadbeef", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if row := b.keys()["deadbeef"]; !row.Damaged {
		t.Errorf("got %+v", row)
	}
	b.want(http.StatusConflict, "POST", "api/keys/deadbeef/rotate", map[string]any{})
	b.want(http.StatusNoContent, "DELETE", "api/keys/deadbeef", nil)
}

func TestApps(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	b.want(http.StatusServiceUnavailable, "GET", "api/apps", nil) // ingest has not made the bucket
	if _, err := keystore.MakeApps(context.Background(), c.js, 1); err != nil {
		t.Fatal(err)
	}
	var made, rotated appAnswer
	b.want(http.StatusOK, "POST", "api/apps", map[string]any{"name": "shop"}).json(t, &made)
	if made.App.Name != "shop" || made.App.Prefix != "pusher."+made.App.ID || made.Key == "" ||
		made.App.Key != made.Key || len(made.Secret) < 16 {
		t.Errorf("got %+v", made)
	}
	for status, body := range map[int]any{
		http.StatusConflict:            map[string]any{"name": "shop"},
		http.StatusUnprocessableEntity: map[string]any{"name": "x", "prefix": "a..b"},
		http.StatusBadRequest:          map[string]any{"name": "x", "secret": "x"},
	} {
		b.want(status, "POST", "api/apps", body)
	}
	b.want(http.StatusUnprocessableEntity, "POST", "api/apps", map[string]any{"name": ""})
	b.want(http.StatusConflict, "POST", "api/apps", map[string]any{"name": "y", "prefix": made.App.Prefix + ".below"})
	b.want(http.StatusOK, "POST", "api/apps/"+made.App.ID+"/rotate", map[string]any{}).json(t, &rotated)
	if len(rotated.App.Keys) != 2 || rotated.Key == made.Key || rotated.Secret == made.Secret ||
		rotated.App.Keys[0].Expires.IsZero() {
		t.Errorf("rotated: got %+v", rotated)
	}
	var list struct{ Rows []appRow }
	a := b.want(http.StatusOK, "GET", "api/apps", nil)
	a.json(t, &list)
	if len(list.Rows) != 1 || list.Rows[0].Key != rotated.Key {
		t.Errorf("got %+v", list)
	}
	all := a.body + b.want(http.StatusOK, "GET", "api/audit", nil).body
	for _, secret := range []string{made.Secret, rotated.Secret} {
		if strings.Contains(all, secret) {
			t.Errorf("a secret is shown again: %s", all)
		}
	}
	b.want(http.StatusNoContent, "DELETE", "api/apps/"+made.App.ID, nil)
	b.want(http.StatusNotFound, "DELETE", "api/apps/"+made.App.ID, nil)
	b.want(http.StatusNotFound, "POST", "api/apps/"+made.App.ID+"/rotate", map[string]any{})
}
