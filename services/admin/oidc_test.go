package admin

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/users"
)

// identity is a small OpenID Connect provider: discovery, keys, authorization
// with PKCE, token and user info endpoints (OpenID Connect Core 1.0).
type identity struct {
	*httptest.Server
	t   testing.TB
	key *rsa.PrivateKey

	mu     sync.Mutex
	user   map[string]any              // guarded by mu; claims of who logs in next
	info   map[string]any              // guarded by mu; of the user info
	twist  func(claims map[string]any) // guarded by mu; what a bad provider does; nil: nothing
	codes  map[string]url.Values       // guarded by mu; of the authorization requests
	tokens int                         // guarded by mu; requests to the token endpoint
}

const clientSecret = "s3cr3t-of-the-console"

func newIdentity(t testing.TB) *identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &identity{t: t, key: key, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the console hung up
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize",
			"token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"userinfo_endpoint": p.URL + "/info", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		e := big.NewInt(int64(key.E)).Bytes()
		answer(w,
			map[string]any{"keys": []any{map[string]string{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
				"n": b64(key.N.Bytes()), "e": b64(e)}}})
	})
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" ||
			q.Get("client_id") != "herald" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = q
		p.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(),
			http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tokens++
		q := p.codes[r.FormValue("code")]
		delete(p.codes, r.FormValue("code"))
		id, secret, _ := r.BasicAuth()
		challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if q == nil || id != "herald" || secret != clientSecret || b64(challenge[:]) != q.Get("code_challenge") ||
			r.FormValue("redirect_uri") != q.Get("redirect_uri") {
			w.WriteHeader(http.StatusBadRequest)
			answer(w, map[string]string{"error": "invalid_grant"})
			return
		}
		claims := maps.Clone(p.user)
		maps.Copy(claims, map[string]any{"iss": p.URL, "aud": "herald", "exp": time.Now().Add(time.Hour).Unix(),
			"iat": time.Now().Unix(), "nonce": q.Get("nonce")})
		if p.twist != nil {
			p.twist(claims)
		}
		answer(w, map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": p.sign(claims)})
	})
	mux.HandleFunc("/info", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer access" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(w, p.info)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (p *identity) sign(claims map[string]any) string {
	body, err := json.Marshal(claims)
	if err != nil {
		p.t.Error(err)
	}
	text := b64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64(body)
	hash := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, hash[:])
	if err != nil {
		p.t.Error(err)
	}
	return text + "." + b64(signature)
}

// is says who logs in next.
func (p *identity) is(user, info map[string]any, twist func(map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user, p.info, p.twist = user, info, twist
}

// startWith runs a console that knows the provider.
func (p *identity) startWith(t testing.TB, change ...func(*Config)) *console {
	return start(t, append([]func(*Config){func(cfg *Config) {
		cfg.OIDC.Issuer, cfg.OIDC.ClientID, cfg.OIDC.ClientSecret = p.URL, "herald", clientSecret
		cfg.OIDC.Roles = []string{"herald-admins=admin", "ops=operator", "a=b=viewer"}
	}}, change...)...)
}

// visit follows the browser from the console to the provider and back, and
// returns the answer of the callback.
func (b *browser) visit() answer {
	b.t.Helper()
	begun := b.want(http.StatusFound, "GET", "oidc/start", nil)
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := stay.Get(begun.header.Get("Location"))
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Path != "/admin/oidc/callback" {
		b.t.Fatalf("the provider sends to %v: %v", back, err)
	}
	return b.call("GET", "oidc/callback?"+back.RawQuery, nil)
}

func (b *browser) keepSession(a answer) {
	for _, cookie := range (&http.Response{Header: a.header}).Cookies() {
		if cookie.Name == b.marked(cookieSecure) {
			b.cookies = []*http.Cookie{{Name: cookie.Name, Value: cookie.Value}}
		}
	}
}

func TestOIDC(t *testing.T) {
	p := newIdentity(t)
	c := p.startWith(t)
	if a := c.browser().want(http.StatusOK, "GET", "api/login", nil); !strings.Contains(a.body,
		`"oidc":{"name":"OpenID Connect","url":"oidc/start"}`) {
		t.Errorf("got %s", a.body)
	}
	for name, test := range map[string]struct {
		user, info map[string]any
		claim      string
		want       sessionAnswer
	}{
		"groups": {user: map[string]any{"sub": "1", "preferred_username": "anna",
			"groups": []any{"x", "ops", "herald-admins"}}, want: sessionAnswer{User: "anna", Role: users.Admin}},
		"one group": {user: map[string]any{"sub": "2", "email": "bob@example.com", "groups": "ops"},
			want: sessionAnswer{User: "bob@example.com", Role: users.Operator}},
		"an = in it": {user: map[string]any{"sub": "3", "groups": []any{"a=b"}},
			want: sessionAnswer{User: "3", Role: users.Viewer}},
		"user info": {user: map[string]any{"sub": "4"}, info: map[string]any{"sub": "4", "preferred_username": "dora",
			"groups": []any{"ops"}}, want: sessionAnswer{User: "dora", Role: users.Operator}},
		"a strange name": {user: map[string]any{"sub": "5", "preferred_username": "<script>", "email": "a b",
			"groups": []any{"ops"}}, want: sessionAnswer{User: "5", Role: users.Operator}},
	} {
		p.is(test.user, test.info, nil)
		b := c.browser()
		a := b.visit()
		b.keepSession(a)
		if a.status != http.StatusSeeOther || a.header.Get("Location") != "../" {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
			continue
		}
		var s sessionAnswer
		b.want(http.StatusOK, "GET", "api/session", nil).json(t, &s)
		if s.User != test.want.User || s.Role != test.want.Role {
			t.Errorf("%s: got %+v", name, s)
		}
	}

	// The role is the provider's, at each login; a removed user is out until then.
	p.is(map[string]any{"sub": "1", "preferred_username": "anna", "groups": []any{"ops"}}, nil, nil)
	anna := c.browser()
	anna.keepSession(anna.visit())
	b := c.login(c.user, c.password)
	if u := b.users()["anna"]; u.Role != users.Operator || u.Via != users.ByOIDC || u.LastLogin.IsZero() {
		t.Errorf("got %+v", u)
	}
	b.want(http.StatusConflict, "PUT", "api/users/anna", map[string]string{"role": "admin"})
	b.want(http.StatusConflict, "PUT", "api/users/anna", map[string]any{"reset": true})
	b.want(http.StatusNoContent, "DELETE", "api/users/anna", nil)
	anna.want(http.StatusUnauthorized, "GET", "api/session", nil)
	c.browser().want(http.StatusUnauthorized, "POST", "api/login", map[string]string{"user": "bob@example.com",
		"password": ""})
}

func TestOIDCRefused(t *testing.T) {
	p := newIdentity(t)
	c := p.startWith(t)
	ops := []any{"ops"}
	good := map[string]any{"sub": "9", "preferred_username": "gina", "groups": ops}
	for name, test := range map[string]struct {
		user  map[string]any
		twist func(map[string]any)
		want  string
	}{
		"no role": {map[string]any{"sub": "7", "groups": []any{"others"}}, nil, "none of the roles"},
		"another's name": {map[string]any{"sub": "8", "preferred_username": "admin", "groups": ops}, nil,
			"there is a user with that name already"},
		"nonce":    {good, func(c map[string]any) { c["nonce"] = "x" }, "could not be verified"},
		"audience": {good, func(c map[string]any) { c["aud"] = "other" }, "could not be verified"},
		"issuer":   {good, func(c map[string]any) { c["iss"] = "https://evil.example" }, "could not be verified"},
		"expired": {good, func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
			"could not be verified"},
		"info of another": {map[string]any{"sub": "10"}, nil, "none of the roles"},
	} {
		p.is(test.user, map[string]any{"sub": "7", "groups": ops}, test.twist)
		if name == "no role" {
			p.is(test.user, nil, nil)
		}
		a := c.browser().visit()
		if a.status != http.StatusForbidden || !strings.Contains(a.body, test.want) ||
			strings.Contains(fmt.Sprint(a.header["Set-Cookie"]), c.marked(cookieSecure)+"=") {
			t.Errorf("%s: got %d %s %v", name, a.status, a.body, a.header["Set-Cookie"])
		}
	}
	if list := c.login(c.user, c.password).users(); len(list) != 1 {
		t.Errorf("somebody was let in: %v", list)
	}

	// Of what another browser began, or somebody invented, the provider is not asked.
	p.is(good, nil, nil)
	p.mu.Lock()
	before := p.tokens
	p.mu.Unlock()
	for name, path := range map[string]string{"no cookie": "oidc/callback?code=x&state=y", "nothing": "oidc/callback",
		"error": "oidc/callback?error=access_denied&state=%3Cscript%3E"} {
		if a := c.browser().call("GET", path, nil); a.status != http.StatusForbidden ||
			!strings.Contains(a.body, "not begun in this browser") || strings.Contains(a.body, "<script>") {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	b := c.browser()
	b.want(http.StatusFound, "GET", "oidc/start", nil)
	b.want(http.StatusForbidden, "GET", "oidc/callback?code=x&state=forged", nil)
	b.want(http.StatusFound, "GET", "oidc/start", nil)
	state, _, _ := strings.Cut(b.cookies[0].Value, ".")
	if a := b.want(http.StatusForbidden, "GET", "oidc/callback?error=%3Cscript%3E&state="+state,
		nil); strings.Contains(a.body, "<script>") {
		t.Errorf("got %s", a.body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tokens != before {
		t.Errorf("the provider was asked %d times", p.tokens-before)
	}
}

// A provider that is away keeps nobody from logging in with a password.
func TestOIDCAway(t *testing.T) {
	p := newIdentity(t)
	c := p.startWith(t)
	p.CloseClientConnections()
	p.Close()
	if a := c.browser().want(http.StatusBadGateway, "GET", "oidc/start", nil); !strings.Contains(a.body,
		"does not answer") {
		t.Errorf("got %s", a.body)
	}
	c.login(c.user, c.password)
}

// Behind a proxy the URL of the console is the one that is set.
func TestOIDCRedirect(t *testing.T) {
	p := newIdentity(t)
	for set, want := range map[string]string{"": "",
		"https://push.example.com/herald/admin/": "https://push.example.com/herald/admin/oidc/callback",
		"https://push.example.com/admin":         "https://push.example.com/admin/oidc/callback"} {
		c := p.startWith(t, func(cfg *Config) { cfg.OIDC.URL = set })
		if want == "" {
			want = c.url + "oidc/callback"
		}
		a := c.browser().want(http.StatusFound, "GET", "oidc/start", nil)
		if u, err := url.Parse(a.header.Get("Location")); err != nil || u.Query().Get("redirect_uri") != want {
			t.Errorf("%q: got %s, want %s", set, a.header.Get("Location"), want)
		}
	}
}

func TestConfig(t *testing.T) {
	good := func() OIDC {
		return OIDC{Issuer: "https://id.example.com", ClientID: "herald", RoleClaim: "groups",
			Roles: []string{"*=viewer"}, Scopes: []string{"openid"}}
	}
	for want, change := range map[string]func(*OIDC){
		"":                 func(*OIDC) {},
		"with https":       func(o *OIDC) { o.Issuer = "http://id.example.com" },
		"oidc-issuer":      func(o *OIDC) { o.Issuer = "" },
		"oidc-client-id":   func(o *OIDC) { o.ClientID = "" },
		"nobody could":     func(o *OIDC) { o.Roles = nil },
		"VALUE=ROLE":       func(o *OIDC) { o.Roles = []string{"x=root"} },
		`"admin"; want V`:  func(o *OIDC) { o.Roles = []string{"admin"} },
		`"=admin"; want V`: func(o *OIDC) { o.Roles = []string{"=admin"} },
		"openid must":      func(o *OIDC) { o.Scopes = nil },
		"console-url":      func(o *OIDC) { o.URL = "push.example.com" },
		"oidc-role-claim":  func(o *OIDC) { o.RoleClaim = "" },
	} {
		cfg := DefaultConfig()
		cfg.OIDC = good()
		change(&cfg.OIDC)
		err := cfg.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
