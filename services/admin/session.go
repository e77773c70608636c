package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/internal/kvcache"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	sessionBucket = "herald_sessions"
	// sessionLifetime is how long a session lasts at most, sessionIdle how long
	// without a call.
	sessionLifetime = 12 * time.Hour
	sessionIdle     = 30 * time.Minute
	// sessionTouch is how exact the time of the last call is kept: a session is
	// written once in that time, and not with every call.
	sessionTouch = time.Minute
	// sessionBytes bounds the bucket: some 20,000 sessions.
	sessionBytes = 16 << 20
)

// What a session holds.
const (
	keyUser  = "user"
	keyEpoch = "epoch" // of the user's password, see users.User
	keyCSRF  = "csrf"
	keySeen  = "seen" // time of the last call, Unix seconds
)

// sessionStore keeps sessions for scs. Their keys are hashes of the tokens (see
// HashTokenInStore), so that who reads the bucket cannot take over a session.
type sessionStore struct{ cache *kvcache.Cache }

func newSessionStore(kv jetstream.KeyValue, connected func() bool) *sessionStore {
	return &sessionStore{kvcache.New(kv, connected)}
}

// errNotReady: users and sessions are not at hand yet.
var errNotReady = errors.New("it has not done so since the console started")

// proxyStore is the store of the session manager, which is made before NATS has
// answered.
type proxyStore struct{ s *Service }

var _ scs.CtxStore = proxyStore{}

func (p proxyStore) store() (*kvcache.Cache, error) {
	if st := p.s.stores.Load(); st != nil {
		return st.sessions.cache, nil
	}
	return nil, errNotReady
}

func (p proxyStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	c, err := p.store()
	if err != nil {
		return nil, false, err
	}
	address, named := ctx.Value(addressKey{}).(netip.Addr)
	if named && !c.Has(token) && !p.s.throttle.lookFor(address, p.s.clock()) {
		return nil, false, errManySessions
	}
	b, _, found, err := c.Get(ctx, token)
	return b, found, err
}

// addressKey is of the client's address in a context.
type addressKey struct{}

// errManySessions: too many sessions were looked for that are not there.
var errManySessions = proto.ProblemTooManyRequests.With("too many calls with unknown sessions come from this address")

// CommitCtx needs no expiry: scs writes it into b, authenticate checks how long
// ago the last call was, and the bucket forgets what is older than any session.
func (p proxyStore) CommitCtx(ctx context.Context, token string, b []byte, _ time.Time) error {
	c, err := p.store()
	if err != nil {
		return err
	}
	return c.Put(ctx, token, b)
}

func (p proxyStore) DeleteCtx(ctx context.Context, token string) error {
	c, err := p.store()
	if err != nil {
		return err
	}
	return c.Delete(ctx, token)
}

// scs.Store has them; scs calls those with a context.
func (p proxyStore) Find(token string) ([]byte, bool, error) {
	return p.FindCtx(context.Background(), token)
}
func (p proxyStore) Commit(token string, b []byte, expiry time.Time) error {
	return p.CommitCtx(context.Background(), token, b, expiry)
}
func (p proxyStore) Delete(token string) error { return p.DeleteCtx(context.Background(), token) }

// newSessions makes the session manager. It writes no cookie: see setCookie.
// scs.New would start a goroutine that only its own store can stop.
func newSessions(s *Service) *scs.SessionManager {
	return &scs.SessionManager{Store: proxyStore{s}, Codec: scs.GobCodec{}, Lifetime: sessionLifetime,
		HashTokenInStore: true}
}

// Names of the session's cookie, before the mark of the deployment (see markOf). A
// browser accepts one with the prefix __Host- only from this host and only if it is
// Secure (RFC 6265bis section 4.1.3.2).
const (
	cookieSecure = "__Host-herald"
	cookiePlain  = "herald-console"
)

// secureCookie reports whether the browser sends a Secure cookie back: over
// HTTPS, and to this machine, where Safari does not.
func (s *Service) secureCookie(r *http.Request) bool {
	if s.cfg.TrustedProxies.ForwardedProto(r) == "https" {
		return true
	}
	agent := r.UserAgent()
	safari := strings.Contains(agent, "AppleWebKit/") && !strings.Contains(agent, "Chrom")
	return httpx.LocalHost(httpx.Authority(r, &s.cfg.TrustedProxies)) && !safari
}

// markOf is what the names of a deployment's cookies end with. Cookies know no ports (RFC
// 6265 section 8.5): without it two Heralds on one host would log each other's users out.
// All consoles of a deployment have the same one, wherever they listen.
func markOf(sessions *jetstream.StreamInfo) string {
	sum := sha256.Sum256([]byte(sessions.Created.UTC().Format(time.RFC3339Nano)))
	return hex.EncodeToString(sum[:4])
}

// cookieName is the name of the session's cookie, with something behind it; empty before
// NATS has answered.
func (s *Service) cookieName(r *http.Request, suffix string) string {
	st := s.stores.Load()
	switch {
	case st == nil:
		return ""
	case s.secureCookie(r):
		return cookieSecure + "-" + st.mark + suffix
	}
	return cookiePlain + "-" + st.mark + suffix
}

// setCookie gives the browser the session's token; an empty one deletes the cookie.
func (s *Service) setCookie(w http.ResponseWriter, r *http.Request, token string) {
	c := &http.Cookie{Name: s.cookieName(r, ""), Value: token, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: s.secureCookie(r)}
	c.MaxAge = int(sessionLifetime / time.Second)
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// token is that of the request's session; empty: none.
func (s *Service) token(r *http.Request) string {
	found := r.CookiesNamed(s.cookieName(r, ""))
	if len(found) != 1 || len(found[0].Value) > 64 { // two: somebody added one on the way
		return ""
	}
	return found[0].Value
}

// call is one call of the page, and who makes it.
type call struct {
	user    string // empty: nobody is logged in
	role    users.Role
	address string // of the client
	csrf    string
	expires time.Time
	session context.Context // of scs; with its values
}

// backgroundHeader is sent with what the page asks by itself, every few seconds:
// such a call does not keep a session alive.
const backgroundHeader = "X-Background"

// authenticate finds the session of a request, and the user as it is now. The
// error is a problem.
func (s *Service) authenticate(r *http.Request) (*call, error) {
	st := s.stores.Load()
	if st == nil {
		return nil, problemNotReady(errNotReady)
	}
	token := s.token(r)
	if token == "" {
		return nil, problemLogin
	}
	ctx, err := s.sessions.Load(context.WithValue(r.Context(), addressKey{}, s.cfg.TrustedProxies.ClientIP(r)), token)
	if err != nil {
		return nil, problemNotReady(err)
	}
	name := s.sessions.GetString(ctx, keyUser)
	if name == "" {
		return nil, problemLogin
	}
	now := s.clock()
	seen := time.Unix(s.sessions.GetInt64(ctx, keySeen), 0)
	u, err := st.users.Get(ctx, name)
	switch {
	case errors.Is(err, users.ErrNotFound):
		err = problemExpired.With("the user was removed")
	case err != nil:
		return nil, problemNotReady(err)
	case subtle.ConstantTimeCompare([]byte(u.Epoch), []byte(s.sessions.GetString(ctx, keyEpoch))) != 1:
		err = problemExpired.With("the password was changed")
	case now.Sub(seen) >= sessionIdle:
		err = problemExpired.With("there was no call for " + sessionIdle.String())
	case !now.Before(s.sessions.Deadline(ctx)):
		err = problemExpired.With("it lasted " + sessionLifetime.String())
	}
	if err != nil {
		_ = s.sessions.Destroy(ctx) // it is refused the next time, too
		return nil, err
	}
	if now.Sub(seen) >= sessionTouch && r.Header.Get(backgroundHeader) == "" {
		seen = now
		s.sessions.Put(ctx, keySeen, now.Unix())
		if _, _, err := s.sessions.Commit(ctx); err != nil {
			s.log.Debug("use of a session not written", "err", err) // it may end early
		}
	}
	expires := s.sessions.Deadline(ctx)
	if idle := seen.Add(sessionIdle); idle.Before(expires) {
		expires = idle
	}
	csrf := s.sessions.GetString(ctx, keyCSRF)
	return &call{user: u.Name, role: u.Role, csrf: csrf, expires: expires, session: ctx}, nil
}

// authorizeAgain authorizes a response that lasts anew: its session must be valid, and the
// user must still have the role. It does not prolong the session. The error is a
// problem.
func (s *Service) authorizeAgain(r *http.Request, role users.Role) error {
	c, err := s.authenticate(background(r))
	if err == nil && !c.role.Includes(role) {
		err = problemRole
	}
	return err
}

// begin starts a session for a user and gives it to the browser. A session that
// the browser brought along is ended: its token may be somebody else's.
func (s *Service) begin(w http.ResponseWriter, r *http.Request, u users.User) (*call, error) {
	if err := s.end(r); err != nil {
		return nil, problemNotReady(err)
	}
	ctx, err := s.sessions.Load(r.Context(), "")
	if err != nil {
		return nil, problemNotReady(err)
	}
	now := s.clock()
	c := &call{user: u.Name, role: u.Role, csrf: rand.Text(), session: ctx}
	s.sessions.Put(ctx, keyUser, u.Name)
	s.sessions.Put(ctx, keyEpoch, u.Epoch)
	s.sessions.Put(ctx, keyCSRF, c.csrf)
	s.sessions.Put(ctx, keySeen, now.Unix())
	token, _, err := s.sessions.Commit(ctx)
	if err != nil {
		return nil, problemNotReady(err)
	}
	s.setCookie(w, r, token)
	c.expires = now.Add(sessionIdle)
	return c, nil
}

// end ends the session that the request brought along, if there is one.
func (s *Service) end(r *http.Request) error {
	token := s.token(r)
	if token == "" {
		return nil
	}
	ctx, err := s.sessions.Load(r.Context(), token)
	if err != nil {
		return err
	}
	return s.sessions.Destroy(ctx)
}
