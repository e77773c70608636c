package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// getLogin says how one can log in.
func (s *Service) getLogin(w http.ResponseWriter, _ *http.Request, _ *call) error {
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"password": true, "oidc": nil})
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
	u, err := st.users.Verify(r.Context(), in.User, in.Password)
	switch {
	case errors.Is(err, users.ErrPassword):
		s.metrics.logins.WithLabelValues(loginWrong).Inc()
		return problemPassword
	case err != nil:
		s.metrics.logins.WithLabelValues(loginFailed).Inc()
		return problemNotReady(err)
	}
	session, err := s.begin(w, r, u)
	if err != nil {
		s.metrics.logins.WithLabelValues(loginFailed).Inc()
		return err
	}
	s.metrics.logins.WithLabelValues(loginOK).Inc()
	if err := st.users.LoggedIn(r.Context(), u.Name, s.clock()); err != nil {
		s.log.Debug("time of a login not written", "err", err)
	}
	s.writeSession(w, session)
	return nil
}

// postLogout ends the session.
func (s *Service) postLogout(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := s.sessions.Destroy(c.session); err != nil {
		return problemNotReady(err)
	}
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
	httpx.WriteJSON(w, http.StatusOK, sessionAnswer{c.user, c.role, c.csrf, c.expires.UTC().Truncate(time.Second), telemetry.BuildVersion(), s.deps.Single, s.instance})
}
