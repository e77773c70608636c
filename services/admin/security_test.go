package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/natstest"
)

// Every route has a role, and nobody with less gets anything from it or changes
// anything: neither a stranger, nor a role below, nor one without the CSRF token.
func TestEveryRouteHasARole(t *testing.T) {
	c := start(t)
	roles := map[users.Role]*browser{"": c.browser(), users.Viewer: c.as(users.Viewer),
		users.Operator: c.as(users.Operator), users.Admin: c.as(users.Admin)}
	before := c.audited()
	for _, r := range c.routes() {
		if r.role == open {
			// The change of address is confirmed by the token that an admin was given.
			if r.path != "login" && r.path != "listen/confirm" && !strings.HasPrefix(r.path, "oidc/") {
				t.Errorf("%s %s needs no session; is it to log in?", r.method, r.path)
			}
			continue
		}
		path := "api/" + strings.NewReplacer("{", "", "}", "").Replace(r.path)
		var body any
		if r.method != http.MethodGet {
			body = "{}"
		}
		for role, b := range roles {
			a := (*answer)(nil)
			switch {
			case role == "":
				got := b.call(r.method, path, body)
				if a = &got; got.status != http.StatusUnauthorized || !strings.Contains(got.body, "login-needed") {
					t.Errorf("a stranger, %s %s: got %d %s", r.method, r.path, got.status, got.body)
				}
			case !role.Includes(r.role):
				got := b.call(r.method, path, body)
				if a = &got; got.status != http.StatusForbidden ||
					!strings.Contains(got.body, "urn:herald:problem:role") {
					t.Errorf("%s, %s %s: got %d %s", role, r.method, r.path, got.status, got.body)
				}
			}
			if r.method != http.MethodGet && role != "" {
				forged := *b
				forged.csrf = ""
				if got := forged.call(r.method, path, body); got.status != http.StatusForbidden ||
					!strings.Contains(got.body, "forgery") {
					t.Errorf("%s without the token, %s %s: got %d %s", role, r.method, r.path, got.status, got.body)
				}
			}
			if a != nil && a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: got %v", r.method, r.path, a.header)
			}
		}
	}
	if after := c.audited(); len(after) != len(before) {
		t.Errorf("refused calls have done something: %v", after)
	}
}

// audited are the actions of the audit, the newest first.
func (c *console) audited() (actions []string) {
	c.t.Helper()
	rows, _, err := c.stores.Load().audit.Page(context.Background(), audit.Query{Limit: audit.MaxLimit})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range rows {
		actions = append(actions, r.Action)
	}
	return actions
}

// A route whose author forgot the role is none.
func TestRouteWithoutARole(t *testing.T) {
	c := start(t)
	for _, role := range []users.Role{"", "root"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the role %q was taken", role)
				}
			}()
			c.mount(chi.NewRouter(), []route{{http.MethodGet, "x", role, c.getSession, false}})
		}()
	}
}

// What another page makes a browser send is refused, the login too.
func TestForgery(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	for name, header := range map[string]http.Header{
		"Sec-Fetch-Site": {"Sec-Fetch-Site": {"cross-site"}},
		"same site":      {"Sec-Fetch-Site": {"same-site"}},
		"Origin":         {"Origin": {"https://evil.example"}},
		"null":           {"Origin": {"null"}},
	} {
		b.header = header
		if a := b.call("POST", "api/users",
			map[string]string{"name": "eve", "role": "admin"}); a.status != http.StatusForbidden ||
			!strings.Contains(a.body, "forgery") {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
		stranger := c.browser()
		stranger.header = header
		if a := stranger.call("POST", "api/login",
			map[string]string{"user": c.user, "password": c.password}); a.status != http.StatusForbidden ||
			len(a.header["Set-Cookie"]) > 0 {
			t.Errorf("%s, login: got %d %s", name, a.status, a.body)
		}
	}
	b.header = http.Header{"Content-Type": {"text/plain"}}
	b.want(http.StatusUnsupportedMediaType, "POST", "api/users", `{"name":"eve","role":"admin"}`)
	b.header = http.Header{}
	for _, token := range []string{"x", b.csrf + "x", strings.ToLower(b.csrf)} {
		wrong := *b
		wrong.csrf = token
		wrong.want(http.StatusForbidden, "POST", "api/users", map[string]string{"name": "eve", "role": "admin"})
	}
	if list := b.want(http.StatusOK, "GET", "api/users", nil); strings.Contains(list.body, "eve") {
		t.Errorf("the user was made: %s", list.body)
	}
}

// A session that somebody planted in the browser is not the one that is logged in.
func TestSessionFixation(t *testing.T) {
	c := start(t)
	attacker := c.as(users.Viewer)
	victim := c.browser()
	victim.cookies = attacker.cookies
	var s sessionAnswer
	victim.want(http.StatusOK, "POST", "api/login",
		map[string]string{"user": c.user, "password": c.password}).json(t, &s)
	if victim.cookies[0].Value == attacker.cookies[0].Value || s.CSRF == attacker.csrf {
		t.Error("the login kept the session that was there")
	}
	attacker.want(http.StatusUnauthorized, "GET", "api/session", nil) // and that one has ended
	invented := c.browser()
	invented.cookies = []*http.Cookie{{Name: c.marked(cookieSecure),
		Value: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}
	invented.want(http.StatusOK, "POST", "api/login", map[string]string{"user": c.user, "password": c.password})
	if strings.HasPrefix(invented.cookies[0].Value, "AAAA") {
		t.Error("the login took a session's name from the browser")
	}
	twice := c.browser()
	twice.cookies = append(append([]*http.Cookie{}, victim.cookies...), invented.cookies...)
	twice.want(http.StatusUnauthorized, "GET", "api/session", nil)
}

func TestCookie(t *testing.T) {
	c := start(t, func(cfg *Config) {
		cfg.Console = On
		if err := cfg.TrustedProxies.UnmarshalText([]byte("127.0.0.0/8")); err != nil {
			t.Fatal(err)
		}
	})
	for name, test := range map[string]struct {
		header http.Header
		want   string
	}{
		"this machine": {http.Header{}, cookieSecure},
		"Safari here": {
			http.Header{"User-Agent": {"Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
				"Version/17.0 Safari/605.1.15"}}, cookiePlain},
		"Chromium here": {
			http.Header{"User-Agent": {"Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 " +
				"Safari/537.36"}},
			cookieSecure},
		"plain HTTP elsewhere": {http.Header{"Host": {"push.example.com"}}, cookiePlain},
		"HTTPS at the proxy": {http.Header{"Host": {"push.example.com"}, "X-Forwarded-Proto": {"https"}},
			cookieSecure},
	} {
		b := c.browser()
		b.header = test.header
		a := b.want(http.StatusOK, "POST", "api/login", map[string]string{"user": c.user, "password": c.password})
		cookie := (&http.Response{Header: a.header}).Cookies()[0]
		secure := test.want == cookieSecure
		if cookie.Name != c.marked(test.want) || cookie.Secure != secure || !cookie.HttpOnly ||
			cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("%s: got %s", name, cookie)
		}
		b.want(http.StatusOK, "GET", "api/session", nil)
	}
}

// Two Heralds on one host have the same cookies, whatever their ports; neither logs the
// other's users out.
func TestCookiesOfTwoHeralds(t *testing.T) {
	one, two := start(t), start(t)
	b := one.login(one.user, one.password)
	first := b.cookies
	b.console, b.csrf = two, ""
	b.want(http.StatusUnauthorized, "GET", "api/session", nil)
	b.want(http.StatusOK, "POST", "api/login", map[string]string{"user": two.user, "password": two.password})
	if b.cookies[0].Name == first[0].Name {
		t.Errorf("both are called %s", first[0].Name)
	}
	b.cookies = append(b.cookies, first...)
	for _, c := range []*console{one, two} {
		b.console = c
		b.want(http.StatusOK, "GET", "api/session", nil)
	}
}

// Guessing is held back by address and by user; who is known there is not.
func TestBruteForce(t *testing.T) {
	c := start(t, func(cfg *Config) {
		cfg.Console = On
		if err := cfg.TrustedProxies.UnmarshalText([]byte("127.0.0.0/8")); err != nil {
			t.Fatal(err)
		}
	})
	c.setTime(time.Now())
	from := func(address string) *browser {
		b := c.browser()
		b.header.Set("X-Forwarded-For", address)
		return b
	}
	wrong := map[string]string{"user": "admin", "password": "wrong"}
	right := map[string]string{"user": c.user, "password": c.password}
	from("192.0.2.1").want(http.StatusOK, "POST", "api/login", right) // home
	for range triesOfAddress {
		from("198.51.100.7").want(http.StatusUnauthorized, "POST", "api/login", wrong)
	}
	a := from("198.51.100.7").want(http.StatusTooManyRequests, "POST", "api/login", right)
	if a.header.Get("Retry-After") == "" || len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("got %v", a.header)
	}
	for i := range triesOfUser - triesOfAddress {
		from("2001:db8:0:"+string(rune('a'+i%6))+"::1").want(http.StatusUnauthorized, "POST", "api/login", wrong)
	}
	from("203.0.113.1").want(http.StatusTooManyRequests, "POST", "api/login", right)
	from("192.0.2.1").want(http.StatusOK, "POST", "api/login", right)
	for range triesOfAddress + 5 { // a password that is right costs nothing
		from("192.0.2.1").want(http.StatusOK, "POST", "api/login", right)
	}
	c.setTime(c.time().Add(triesOfUserEvery))
	from("203.0.113.1").want(http.StatusOK, "POST", "api/login", right)
}

// Sessions that somebody invents cost NATS a bounded number of questions, and those
// who have one nothing.
func TestInventedSessions(t *testing.T) {
	c := start(t)
	c.setTime(time.Now())
	b := c.login(c.user, c.password)
	stranger := c.browser()
	for i := range unknownOfAddress + 10 {
		stranger.cookies = []*http.Cookie{{Name: c.marked(cookieSecure), Value: fmt.Sprintf("%043d", i)}}
		want := http.StatusUnauthorized
		if i >= unknownOfAddress {
			want = http.StatusTooManyRequests
		}
		stranger.want(want, "GET", "api/session", nil)
	}
	b.want(http.StatusOK, "GET", "api/session", nil)
	c.setTime(c.time().Add(unknownOfAddressEvery))
	stranger.want(http.StatusUnauthorized, "GET", "api/session", nil)
	stranger.cookies = nil
	c.login(c.user, c.password)
}

// The memory of the throttle is bounded, whatever strangers send.
func TestThrottleForgets(t *testing.T) {
	var th throttle
	for i := range 3 * maxTriers {
		th.try(strings.Repeat("x", i%100)+string(rune(i)), "2001:db8::1", time.Now())
	}
	if n := len(th.users.young) + len(th.users.old); n > 2*maxTriers || len(th.addresses.young) > 1 {
		t.Errorf("got %d users, %d addresses", n, len(th.addresses.young))
	}
}

// A session ends after a while without use, and in any case after its lifetime.
// What the page asks by itself is no use.
func TestSessionExpires(t *testing.T) {
	c := start(t)
	begin := time.Now()
	c.setTime(begin)
	b := c.login(c.user, c.password)
	idle := c.login(c.user, c.password)
	idle.header.Set(backgroundHeader, "1")
	var s sessionAnswer
	for now := time.Duration(0); now < sessionLifetime-time.Minute; now += sessionIdle - time.Minute {
		c.setTime(begin.Add(now))
		b.want(http.StatusOK, "GET", "api/session", nil).json(t, &s)
		if want := min(now+sessionIdle, sessionLifetime); s.Expires.Sub(begin) > want+time.Second {
			t.Errorf("after %s: expires after %s, want at most %s", now, s.Expires.Sub(begin), want)
		}
		if now < sessionIdle {
			idle.want(http.StatusOK, "GET", "api/session", nil)
		} else if a := idle.call("GET", "api/session", nil); a.status != http.StatusUnauthorized {
			t.Errorf("after %s without use: got %d", now, a.status)
		}
	}
	c.setTime(begin.Add(sessionLifetime + time.Second))
	// In the middle of an action: 401, and nothing is done.
	a := b.want(http.StatusUnauthorized, "POST", "api/users", map[string]string{"name": "late", "role": "viewer"})
	if !strings.Contains(a.body, "session-ended") {
		t.Errorf("got %s", a.body)
	}
	c.setTime(time.Time{})
	if list := c.login(c.user, c.password).want(http.StatusOK, "GET", "api/users",
		nil); strings.Contains(list.body, "late") {
		t.Errorf("it was done: %s", list.body)
	}
}

func TestConsoleOff(t *testing.T) {
	c := start(t, func(cfg *Config) { cfg.Console = Off })
	b := c.browser()
	for _, path := range []string{"", "app.js", "api/session", "api/login", "api/nothing"} {
		b.want(http.StatusNotFound, "GET", path, nil)
	}
	b.want(http.StatusNotFound, "POST", "api/login", map[string]string{"user": "admin", "password": "x"})
	b.url = strings.TrimSuffix(b.url, "/")
	b.want(http.StatusNotFound, "GET", "", nil)
}

// Open to this machine alone: not through a proxy on it, not for a page that had
// its name resolved to it, whatever a client writes into headers.
func TestThisMachineOnly(t *testing.T) {
	c := start(t)
	for name, header := range map[string]http.Header{
		"proxy":              {"X-Forwarded-For": {"198.51.100.1"}},
		"forged":             {"X-Forwarded-For": {"127.0.0.1"}},
		"forged host":        {"X-Forwarded-Host": {"localhost"}},
		"Forwarded":          {"Forwarded": {"for=127.0.0.1"}},
		"rebinding":          {"Host": {"evil.example"}},
		"rebinding, port":    {"Host": {"evil.example:5000"}},
		"looks like":         {"Host": {"127.0.0.1.evil.example"}},
		"looks like, name":   {"Host": {"localhost.evil.example"}},
		"address of another": {"Host": {"192.0.2.1"}},
	} {
		b := c.browser()
		b.header = header
		for _, path := range []string{"", "app.js", "api/login", "api/session"} {
			if a := b.call("GET", path, nil); a.status != http.StatusForbidden ||
				!strings.Contains(a.body, "only-here") || !strings.Contains(a.body, "HERALD_CONSOLE") {
				t.Errorf("%s, %q: got %d %s", name, path, a.status, a.body)
			}
		}
		b.want(http.StatusForbidden, "POST", "api/login", map[string]string{"user": c.user, "password": c.password})
	}
	b := c.browser()
	b.header = http.Header{"Host": {"localhost:5000"}}
	b.want(http.StatusOK, "GET", "", nil)
}

// While NATS is away nothing is done, and who is logged in is told why.
func TestNATSAway(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	b.want(http.StatusOK, "GET", "api/session", nil)
	c.nats.Stop()
	natstest.Eventually(t, 30*time.Second, "the connection to break", func() bool { return !c.nc.IsConnected() })
	b.want(http.StatusOK, "GET", "api/session", nil) // remembered
	if a := b.call("POST", "api/users",
		map[string]string{"name": "anna", "role": "viewer"}); a.status != http.StatusServiceUnavailable ||
		!strings.Contains(a.body, "NATS") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	stranger := c.browser()
	stranger.cookies = []*http.Cookie{{Name: c.marked(cookieSecure),
		Value: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}
	stranger.want(http.StatusServiceUnavailable, "GET", "api/session", nil)
	c.nats.Restart()
	natstest.Eventually(t, 30*time.Second, "the console to work again", func() bool {
		return b.call("POST", "api/users",
			map[string]string{"name": "anna", "role": "viewer"}).status != http.StatusServiceUnavailable
	})
}
