package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// getLogin says how one can log in.
func (s *Service) getLogin(w http.ResponseWriter, _ *http.Request, _ *call) error {
	type button struct {
		Name string `json:"name"`
		URL  string `json:"url"`
	}
	var other *button
	if s.provider != nil {
		other = &button{s.cfg.OIDC.Name, "oidc/start"}
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"password": true, "oidc": other})
	return nil
}

// postLogin starts a session for who has the password.
func (s *Service) postLogin(w http.ResponseWriter, r *http.Request, c *call) error {
	var in struct {
		User     string `json:"user"`
		Password string `json:"password"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	st := s.stores.Load()
	if st == nil {
		return problemNotReady(errNotReady)
	}
	refund, wait, ok := s.throttle.try(in.User, c.address, s.clock())
	if !ok {
		s.metrics.logins.WithLabelValues(loginThrottled).Inc()
		httpx.RetryAfter(w, wait)
		return proto.ProblemTooManyRequests.With(fmt.Sprintf("too many tries to log in; try again in %s",
			wait.Round(time.Second)+time.Second))
	}
	u, err := st.users.Verify(r.Context(), in.User, in.Password)
	switch {
	case errors.Is(err, users.ErrPassword):
		s.metrics.logins.WithLabelValues(loginWrong).Inc()
		s.audit(r.Context(), &call{user: shown(in.User), address: c.address},
			intent{action: "login." + audit.Refused, target: shown(in.User), after: proof{users.ByPassword, ""}})
		return problemPassword
	case errors.Is(err, users.ErrBusy):
		s.metrics.logins.WithLabelValues(loginThrottled).Inc()
		httpx.RetryAfter(w, time.Second)
		return proto.ProblemTooManyRequests.With(err.Error())
	case err != nil:
		s.metrics.logins.WithLabelValues(loginFailed).Inc()
		return problemNotReady(err)
	}
	refund()
	s.throttle.succeeded(in.User, c.address)
	session, err := s.welcome(w, r, u, c.address)
	if err != nil {
		return err
	}
	s.writeSession(w, session)
	return nil
}

// proof is how somebody proved who it is, or tried to, as the audit has it.
type proof struct {
	By      string `json:"by"`                // users.ByPassword or users.ByOIDC
	Refused string `json:"refused,omitempty"` // why, where the provider says it
}

// welcome starts the session of a user who has proved who it is.
func (s *Service) welcome(w http.ResponseWriter, r *http.Request, u users.User, address string) (*call, error) {
	var c *call
	err := s.act(r.Context(), &call{user: u.Name, role: u.Role, address: address},
		intent{action: "login", target: u.Name, after: proof{u.Via, ""}}, func() (_ any, err error) {
			c, err = s.begin(w, r, u)
			return nil, err
		})
	if err != nil {
		s.metrics.logins.WithLabelValues(loginFailed).Inc()
		return nil, err
	}
	c.address = address
	proxies := &s.cfg.TrustedProxies
	if proxies.ForwardedProto(r) != "https" && !httpx.LocalHost(httpx.Authority(r, proxies)) {
		s.plain.Do(func() {
			s.log.Warn("somebody logs in to the console over plain HTTP: whoever is on the way can read the "+
				"password; put TLS in front, or name the proxy that does in HERALD_TRUSTED_PROXIES", "remote", address)
		})
	}
	s.metrics.logins.WithLabelValues(loginOK).Inc()
	if err := s.stores.Load().users.LoggedIn(r.Context(), u.Name, s.clock()); err != nil {
		s.log.Debug("time of a login not written", "err", err)
	}
	return c, nil
}

// shown is what somebody gave as a user, as the audit has it: people type their
// password there, too.
func shown(user string) string {
	if users.CheckName(user) != nil {
		return "(no name of a user)"
	}
	return user
}

// postLogout ends the session.
func (s *Service) postLogout(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := s.sessions.Destroy(c.session); err != nil {
		return problemNotReady(err)
	}
	s.audit(r.Context(), c, intent{action: "logout"})
	s.setCookie(w, r, "")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getSession says who is logged in.
func (s *Service) getSession(w http.ResponseWriter, _ *http.Request, c *call) error {
	s.writeSession(w, c)
	return nil
}

// sessionAnswer is a session as the page sees it.
type sessionAnswer struct {
	User     string     `json:"user"`
	Role     users.Role `json:"role"`
	CSRF     string     `json:"csrf"`
	Expires  time.Time  `json:"expires"`
	Version  string     `json:"version"`
	Single   bool       `json:"single"`
	Instance string     `json:"instance"`
}

func (s *Service) writeSession(w http.ResponseWriter, c *call) {
	httpx.WriteJSON(w, http.StatusOK, sessionAnswer{c.user, c.role, c.csrf, c.expires.UTC().Truncate(time.Second),
		telemetry.BuildVersion(), s.deps.Single, s.instance})
}
