package admin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/httpx"
	"golang.org/x/oauth2"
)

const (
	// oidcTimeout bounds one request to the provider.
	oidcTimeout = 5 * time.Second
	// oidcLogin is how long somebody may take at the provider.
	oidcLogin = 10 * time.Minute
	// oidcAtOnce bounds the logins that ask the provider at the same time.
	oidcAtOnce = 4
)

// provider is the OpenID Connect provider. What it says of itself is fetched
// when somebody first logs in, so that a provider that is away does not keep the
// console from starting. Safe for concurrent use.
type provider struct {
	cfg    *OIDC
	client *http.Client
	places *httpx.Places

	mu    sync.Mutex
	found *oidc.Provider // guarded by mu; nil until it was fetched
}

// newProvider returns nil where there is none.
func newProvider(cfg *OIDC) *provider {
	if cfg.Issuer == "" {
		return nil
	}
	return &provider{cfg: cfg, client: &http.Client{Timeout: oidcTimeout,
		Transport: http.DefaultTransport.(*http.Transport).Clone()}, places: httpx.NewPlaces(oidcAtOnce, oidcAtOnce)}
}

// close ends the connections that are kept.
func (p *provider) close() {
	if p != nil {
		p.client.CloseIdleConnections()
	}
}

func (p *provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	found := p.found
	p.mu.Unlock()
	if found != nil {
		return found, nil
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = found
	return found, nil
}

// exchange is the configuration of one login.
func (s *Service) exchange(found *oidc.Provider, r *http.Request) *oauth2.Config {
	at := s.cfg.OIDC.URL
	if at == "" {
		at = s.cfg.TrustedProxies.ForwardedProto(r) + "://" + httpx.Authority(r, &s.cfg.TrustedProxies) + "/admin/"
	}
	return &oauth2.Config{ClientID: s.cfg.OIDC.ClientID, ClientSecret: s.cfg.OIDC.ClientSecret,
		Endpoint:    found.Endpoint(),
		RedirectURL: strings.TrimSuffix(at, "/") + "/oidc/callback", Scopes: s.cfg.OIDC.Scopes}
}

// oidcCookie carries what only the browser that began a login has, to the end of
// it. Unlike the session's it is sent along when the provider sends the browser
// back (Lax).
func (s *Service) oidcCookie(r *http.Request, value string) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(r, "-oidc"), Value: value, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: int(oidcLogin / time.Second), Secure: s.secureCookie(r)}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// startOIDC sends the browser to the provider.
func (s *Service) startOIDC(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.stores.Load() == nil {
		s.oidcFailed(w, http.StatusServiceUnavailable, errNotReady.Error())
		return
	}
	free, err := s.provider.places.Acquire("")
	if err != nil {
		s.oidcFailed(w, http.StatusServiceUnavailable, "Many log in at this moment; try again.")
		return
	}
	defer free()
	found, err := s.provider.discover(r.Context())
	if err != nil {
		s.log.Warn("the OpenID Connect provider does not answer", "issuer", s.cfg.OIDC.Issuer, "err", err)
		s.oidcFailed(w, http.StatusBadGateway, "The provider does not answer; try again, or log in with a password.")
		return
	}
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	http.SetCookie(w, s.oidcCookie(r, state+"."+nonce+"."+verifier))
	http.Redirect(w, r, s.exchange(found, r).AuthCodeURL(state, oidc.Nonce(nonce),
		oauth2.S256ChallengeOption(verifier)), http.StatusFound)
}

// finishOIDC is where the provider sends the browser back to.
func (s *Service) finishOIDC(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	st := s.stores.Load()
	if st == nil {
		s.oidcFailed(w, http.StatusServiceUnavailable, errNotReady.Error())
		return
	}
	address := ""
	if ip := s.cfg.TrustedProxies.ClientIP(r); ip.IsValid() {
		address = ip.String()
	}
	cookies := r.CookiesNamed(s.oidcCookie(r, "").Name)
	http.SetCookie(w, s.oidcCookie(r, ""))
	query := r.URL.Query()
	var parts []string
	if len(cookies) == 1 {
		parts = strings.Split(cookies[0].Value, ".")
	}
	if len(parts) != 3 || subtle.ConstantTimeCompare([]byte(parts[0]), []byte(query.Get("state"))) != 1 ||
		parts[0] == "" {
		s.metrics.refused.WithLabelValues(refusedForgery).Inc()
		s.oidcFailed(w, http.StatusForbidden,
			"This login was not begun in this browser, or it took longer than "+oidcLogin.String()+". Begin again.")
		return
	}
	refund, wait, ok := s.throttle.try("oidc "+address, address, s.clock())
	switch {
	case !ok:
		s.metrics.logins.WithLabelValues(loginThrottled).Inc()
		httpx.RetryAfter(w, wait)
		s.oidcFailed(w, http.StatusTooManyRequests, "Too many tries to log in; try again in a minute.")
		return
	case query.Get("error") != "": // its text is the provider's, or anybody's
		s.refuseOIDC(w, r, address, fmt.Sprintf("the provider refused: %.100q", query.Get("error")))
		return
	}
	who, err := s.prove(r, parts[1], parts[2])
	switch {
	case errors.Is(err, errNoRole):
		s.refuseOIDC(w, r, address, err.Error())
		return
	case err != nil:
		s.log.Warn("a login by OpenID Connect failed", "issuer", s.cfg.OIDC.Issuer, "remote", address, "err", err)
		s.refuseOIDC(w, r, address, "the provider's answer could not be verified; the log of the console says more")
		return
	}
	u, err := st.users.Seen(r.Context(), who.name, who.subject, who.role, s.clock())
	switch {
	case errors.Is(err, users.ErrExists):
		s.refuseOIDC(w, r, address, err.Error()+"; an admin can remove that one")
		return
	case err == nil:
		refund()
		_, err = s.welcome(w, r, u, address)
	}
	if err != nil {
		s.metrics.logins.WithLabelValues(loginFailed).Inc()
		s.oidcFailed(w, http.StatusServiceUnavailable, problemNotReady(err).Error())
		return
	}
	w.Header().Set("Location", "../") // a proxy may have taken a part of the path away
	w.WriteHeader(http.StatusSeeOther)
}

func (s *Service) refuseOIDC(w http.ResponseWriter, r *http.Request, address, why string) {
	s.metrics.logins.WithLabelValues(loginWrong).Inc()
	s.audit(r.Context(), &call{address: address},
		intent{action: "login." + audit.Refused, after: proof{users.ByOIDC, why}})
	s.oidcFailed(w, http.StatusForbidden, "Not logged in: "+why+".")
}

// proved is who somebody is, as the provider says.
type proved struct {
	name, subject string
	role          users.Role
}

// errNoRole: the provider knows the user, and gives it none of the groups that
// may log in.
var errNoRole = errors.New("your account has none of the roles that may log in here")

// prove exchanges the code of the request for an ID token, and verifies it.
func (s *Service) prove(r *http.Request, nonce, verifier string) (who proved, err error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(r.Context(), s.provider.client), 3*oidcTimeout)
	defer cancel()
	free, err := s.provider.places.Wait(ctx, "")
	if err != nil {
		return who, err
	}
	defer free()
	found, err := s.provider.discover(ctx)
	if err != nil {
		return who, err
	}
	token, err := s.exchange(found, r).Exchange(ctx, r.URL.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		var refused *oauth2.RetrieveError // with the whole answer, which may have a token
		if errors.As(err, &refused) {
			return who, fmt.Errorf("exchange the code: %d %.100q", refused.Response.StatusCode, refused.ErrorCode)
		}
		return who, fmt.Errorf("exchange the code: %w", err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return who, errors.New("the answer has no ID token")
	}
	id, err := found.Verifier(&oidc.Config{ClientID: s.cfg.OIDC.ClientID}).Verify(ctx, raw)
	if err != nil {
		return who, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1 {
		return who, errors.New("the ID token is of another login")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return who, err
	}
	if len(textsAt(claims, s.cfg.OIDC.RoleClaim)) == 0 && found.UserInfoEndpoint() != "" { // groups may be there
		info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err == nil && info.Subject == id.Subject {
			err = info.Claims(&claims)
		}
		if err != nil {
			return who, fmt.Errorf("user info: %w", err)
		}
	}
	who = proved{name: nameOf(claims, id.Subject), subject: id.Issuer + " " + id.Subject,
		role: s.cfg.OIDC.roleOf(claims)}
	if who.role == "" {
		return who, errNoRole
	}
	return who, nil
}

// nameOf is the first of these claims that may be a user's name.
func nameOf(claims map[string]any, subject string) string {
	for _, claim := range []string{"preferred_username", "email"} {
		if name, ok := claims[claim].(string); ok && users.CheckName(name) == nil {
			return name
		}
	}
	return subject
}

var oidcPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Herald console: not logged in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="../shared/tokens.css">
<link rel="stylesheet" href="../shared/controls.css">
<link rel="stylesheet" href="../admin/admin.css"></head>
<body><div id="console"><main class="door"><div class="card login">
<h1><img src="../shared/herald.svg" alt="" width="32" height="32">Not logged in</h1>
<p role="alert">{{.}}</p>
<p><a class="button" href="../">Back to the login</a></p>
</div></main></div></body></html>
`))

// oidcFailed answers a person, whose browser the provider has sent here.
func (s *Service) oidcFailed(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = oidcPage.Execute(w, text) // a client that hung up misses only its own answer
}
