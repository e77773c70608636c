package admin

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
)

// What the console keeps may be deleted while it runs. Whatever it is, nobody gets in who could not before, nobody
// stays out, and the console says what happened.
func TestDeletedWhileItRuns(t *testing.T) {
	for name, c := range map[string]struct {
		deleted []string
		stays   bool // who is logged in stays so
		fresh   bool // the first user is made anew
	}{
		"sessions": {deleted: []string{"KV_" + sessionBucket}},
		"users":    {deleted: []string{"KV_" + users.Bucket}, fresh: true},
		"audit":    {deleted: []string{audit.Stream}, stays: true},
		"everything": {deleted: []string{"KV_" + sessionBucket, "KV_" + users.Bucket, audit.Stream,
			"KV_" + keystore.Bucket}, fresh: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			first := s.password
			b, viewer := s.login(s.user, s.password), s.as(users.Viewer)
			for _, name := range c.deleted {
				if err := s.js.DeleteStream(context.Background(), name); err != nil {
					t.Fatal(err)
				}
			}
			stranger := s.browser()
			natstest.Eventually(t, time.Minute, "the console to be whole again", func() bool {
				if a := stranger.call("GET", "api/session", nil); a.status != http.StatusUnauthorized {
					t.Errorf("without a session: got %d %s", a.status, a.body)
				}
				if a := viewer.call("POST", "api/publish", `{"channel":"broadcast","data":1}`); a.status < 400 {
					t.Errorf("a viewer publishes: got %d %s", a.status, a.body)
				}
				b.call("GET", "api/audit", nil) // somebody looks, and finds out
				for _, name := range c.deleted {
					if _, err := s.js.Stream(context.Background(), name); err != nil && name != "KV_"+keystore.Bucket {
						return false
					}
				}
				return s.ready(context.Background()) == nil
			})
			if a := b.call("GET", "api/session", nil); (a.status == http.StatusOK) != c.stays {
				t.Errorf("who was logged in: got %d %s", a.status, a.body)
			}
			password := s.announced()
			if (password != first) != c.fresh {
				t.Errorf("a first user was made anew: %v", password != first)
			}
			b = s.login(s.user, password)
			b.want(http.StatusOK, "POST", "api/users", `{"name":"after","role":"viewer"}`)
			if got := b.audited(); len(got) < 3 || got[0] != "user.add" || got[1] != "login" {
				t.Errorf("the audit: got %v", got)
			}
		})
	}
}
