package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natstest.Leaks()...) }

var pages = fstest.MapFS{
	"admin/index.html":       {Data: []byte("<!doctype html><title>console</title>")},
	"admin/app.js":           {Data: []byte("export {}")},
	"third_party/preact.mjs": {Data: []byte("export {}")},
	"demo/secret.js":         {Data: []byte("not of the console")},
}

// console is a running service, and the NATS server below it.
type console struct {
	*Service
	t        testing.TB
	nats     *natstest.Server
	js       jetstream.JetStream
	url      string // ends with /admin/
	user     string // the first one
	password string
	stop     func()

	mu     sync.Mutex
	now    time.Time // guarded by mu; zero: the real one
	newest string    // guarded by mu; password that was announced
}

func (c *console) announce(user, password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest == "" {
		c.user, c.password = user, password
	}
	c.newest = password
}

// announced is the newest password of the first user.
func (c *console) announced() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// start runs a console with a NATS server of its own.
func start(t testing.TB, change ...func(*Config)) *console {
	t.Helper()
	server := natstest.Start(t)
	nc := server.Connect()
	js, _ := server.Stream(nc)
	if _, err := keystore.Make(context.Background(), js, 1); err != nil {
		t.Fatal(err)
	}
	return startOn(t, server, nc, js, change...)
}

func startOn(t testing.TB, server *natstest.Server, nc *nats.Conn, js jetstream.JetStream,
	change ...func(*Config)) *console {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	for _, f := range change {
		f(&cfg)
	}
	registry := telemetry.NewRegistry("admin")
	c := &console{t: t, nats: server, js: js}
	announced := make(chan struct{}, 8)
	s, err := New(context.Background(), cfg, Deps{NATS: nc, Log: natstest.Log(t), Registry: registry,
		Ops: telemetry.NewOps(registry), Pages: pages,
		Announce: func(user, password string) { c.announce(user, password); announced <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	s.clock = c.time
	s.ask.Patient(time.Minute)
	c.Service = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends with stop
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(c.stop)
	c.url = "http://" + s.Addr().String() + "/admin/"
	if cfg.Console != Off {
		natstest.Eventually(t, 30*time.Second, "the console to be ready", func() bool { return s.ready(ctx) == nil })
	}
	select {
	case <-announced:
	default:
	}
	return c
}

// marked is the name of a cookie of this deployment.
func (c *console) marked(name string) string { return name + "-" + c.stores.Load().mark }

// time is the clock of the console.
func (c *console) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		return time.Now()
	}
	return c.now
}

func (c *console) setTime(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// answer is what a call got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// browser is somebody who calls: with the cookies and the CSRF token that it got.
type browser struct {
	*console
	cookies []*http.Cookie
	csrf    string
	header  http.Header
}

func (c *console) browser() *browser { return &browser{console: c, header: http.Header{}} }

// call sends body, which is JSON where it is no string.
func (b *browser) call(method, path string, body any) answer {
	b.t.Helper()
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, b.url+path, r)
	if err != nil {
		b.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if b.csrf != "" {
		req.Header.Set(csrfHeader, b.csrf)
	}
	for name, values := range b.header {
		if req.Header[name] = values; name == "Host" {
			req.Host = values[0]
		}
	}
	for _, cookie := range b.cookies {
		req.AddCookie(cookie)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, cookie := range resp.Cookies() {
		if cookie.MaxAge < 0 {
			b.cookies = nil
		} else {
			b.cookies = []*http.Cookie{{Name: cookie.Name, Value: cookie.Value}}
		}
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// want is call, and the status that it must have.
func (b *browser) want(status int, method, path string, body any) answer {
	b.t.Helper()
	a := b.call(method, path, body)
	if a.status != status {
		b.t.Fatalf("%s %s: got %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

// login logs in, and keeps the CSRF token.
func (c *console) login(user, password string) *browser {
	c.t.Helper()
	b := c.browser()
	var session sessionAnswer
	b.want(http.StatusOK, "POST", "api/login",
		map[string]string{"user": user, "password": password}).json(c.t, &session)
	b.csrf = session.CSRF
	return b
}

// as makes a user with the role, and logs in as that one.
func (c *console) as(role users.Role) *browser {
	c.t.Helper()
	name := string(role) + "-" + strings.ToLower(users.NewPassword()[:4])
	password, err := c.stores.Load().users.Add(context.Background(), name, role, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return c.login(name, password)
}

func TestFirstLogin(t *testing.T) {
	c := start(t)
	if c.user != "admin" || len(c.password) < 20 {
		t.Fatalf("announced: got %q %q", c.user, c.password)
	}
	stranger := c.browser()
	stranger.want(http.StatusUnauthorized, "GET", "api/session", nil)
	stranger.want(http.StatusUnauthorized, "POST", "api/login", map[string]string{"user": "admin", "password": "wrong"})
	b := c.login(c.user, c.password)
	var s sessionAnswer
	b.want(http.StatusOK, "GET", "api/session", nil).json(t, &s)
	if s.User != "admin" || s.Role != users.Admin || s.CSRF != b.csrf || s.CSRF == "" || s.Instance == "" ||
		time.Until(s.Expires) < time.Minute {
		t.Errorf("session: got %+v", s)
	}
	old := *b
	b.want(http.StatusNoContent, "POST", "api/logout", nil)
	old.want(http.StatusUnauthorized, "GET", "api/session", nil)
}

// The first password is made once: another process, or the next start, has none to print.
func TestFirstPasswordOnce(t *testing.T) {
	c := start(t)
	c.stop()
	again := startOn(t, c.nats, c.nats.Connect(), c.js)
	if again.password != "" {
		t.Errorf("announced again: %q", again.user)
	}
	again.login(c.user, c.password)
}

// Two processes share sessions.
func TestSessionsAreShared(t *testing.T) {
	one := start(t)
	two := startOn(t, one.nats, one.nats.Connect(), one.js)
	b := one.login(one.user, one.password)
	b.console = two
	b.want(http.StatusOK, "GET", "api/session", nil)
	b.want(http.StatusNoContent, "POST", "api/logout", nil)
}

func TestPages(t *testing.T) {
	c := start(t)
	b := c.browser()
	for path, want := range map[string]string{"": "text/html; charset=utf-8",
		"admin/app.js": "text/javascript; charset=utf-8", "third_party/preact.mjs": "text/javascript; charset=utf-8"} {
		a := b.want(http.StatusOK, "GET", path, nil)
		if a.header.Get("Content-Type") != want || a.header.Get("Content-Security-Policy") != securityPolicy ||
			a.header.Get("X-Frame-Options") != "DENY" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%q: got %v", path, a.header)
		}
	}
	for _, path := range []string{"nothing.js", "app.js", "index.html", "admin/nothing.js", "client/herald.js",
		"demo/secret.js", "../demo/secret.js", "%2e%2e/demo/secret.js", "shared/../demo/secret.js",
		"third_party/%2e%2e/demo/secret.js", "third_party/..%2fdemo%2fsecret.js", "..%5cdemo", "api", "api/",
		"api/nothing", "third_party", "/etc/passwd"} {
		if a := b.call("GET", path, nil); a.status != http.StatusNotFound {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	for accept, want := range map[string]string{"gzip": "gzip", "br, gzip;q=0.5": "gzip", "gzip;q=0": "",
		"identity": "", "": ""} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		c.servePage(w, r, "admin/app.js")
		if got := w.Header().Get("Content-Encoding"); got != want || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: got %q, %v", accept, got, w.Header())
		}
		body := io.Reader(w.Body)
		if want == "gzip" {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != "export {}" {
			t.Errorf("Accept-Encoding %q: got %q, %v", accept, text, err)
		}
	}
	b.url = strings.TrimSuffix(b.url, "/")
	if a := b.want(http.StatusPermanentRedirect, "GET", "", nil); a.header.Get("Location") != "admin/" {
		t.Errorf("without the slash: got %q", a.header.Get("Location"))
	}
}
