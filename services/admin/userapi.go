package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/httpx"
)

// pathParam is what stands for a parameter in the path, decoded once: chi matches
// on the encoded path where that differs from the usual encoding.
func pathParam(r *http.Request, name string) (string, error) {
	v := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return v, nil
	}
	v, err := url.PathUnescape(v)
	if err != nil {
		return "", proto.ProblemInvalidParameter.With("the path has a % without two hexadecimal digits")
	}
	return v, nil
}

// userProblem is the answer to an error of package users.
func userProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, users.ErrNotFound):
		return proto.ProblemNotFound.With(err.Error())
	case errors.Is(err, users.ErrExists), errors.Is(err, users.ErrLastAdmin), errors.Is(err, users.ErrOIDC),
		errors.Is(err, users.ErrChanged):
		return problemConflict.With(err.Error())
	case errors.Is(err, users.ErrBusy):
		return proto.ProblemTooManyRequests.With(err.Error())
	case errors.Is(err, users.ErrInvalid):
		return problemInvalid.With(err.Error())
	}
	return problemNotReady(err)
}

// roleOf is a user as the audit has it.
type roleOf struct {
	Role users.Role `json:"role"`
}

func (s *Service) getUsers(w http.ResponseWriter, r *http.Request, _ *call) error {
	list, err := s.stores.Load().users.List(r.Context())
	if err != nil {
		return userProblem(err)
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"rows": list})
	return nil
}

// postUser makes a user; its password is in the answer, and nowhere else.
func (s *Service) postUser(w http.ResponseWriter, r *http.Request, c *call) error {
	var in struct {
		Name string     `json:"name"`
		Role users.Role `json:"role"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	// Checked before the audit, which accepts only names that users may have.
	if err := users.Check(in.Name, in.Role); err != nil {
		return userProblem(err)
	}
	var password string
	err := s.act(r.Context(), c, intent{action: "user.add", target: in.Name, after: roleOf{in.Role}},
		func() (_ any, err error) {
			password, err = s.stores.Load().users.Add(r.Context(), in.Name, in.Role, s.clock())
			return nil, userProblem(err)
		})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"name": in.Name, "role": string(in.Role), "password": password})
	return nil
}

// putUser changes the role of a user, resets its password, or has a user choose
// its own: everybody may do the last.
func (s *Service) putUser(w http.ResponseWriter, r *http.Request, c *call) error {
	name, err := pathParam(r, "name")
	if err != nil {
		return err
	}
	var in struct {
		Role     users.Role `json:"role"`
		Reset    bool       `json:"reset"`
		Password *struct {
			Old string `json:"old"`
			New string `json:"new"`
		} `json:"password"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	own := strings.EqualFold(name, c.user)
	switch given := count(in.Role != "", in.Reset, in.Password != nil); {
	case given != 1:
		return problemInvalid.With("want one of role, reset and password")
	case in.Password == nil && !c.role.Includes(users.Admin):
		s.metrics.refused.WithLabelValues(refusedRole).Inc()
		return problemRole.With(fmt.Sprintf("%s is %s, and this needs %s", c.user, c.role, users.Admin))
	case in.Password != nil && !own:
		return problemRole.With("the password of somebody else cannot be chosen, only reset")
	case in.Role != "":
		return s.putRole(w, r, c, name, in.Role)
	case in.Reset:
		return s.resetPassword(w, r, c, name)
	}
	// Who has somebody's session must not find out the password by trying.
	refund, wait, ok := s.throttle.try(name, c.address, s.clock())
	if !ok {
		httpx.RetryAfter(w, wait)
		return proto.ProblemTooManyRequests.With("too many tries; wait a little")
	}
	st := s.stores.Load()
	err = s.act(r.Context(), c, intent{action: "user.password", target: c.user}, func() (any, error) {
		err := st.users.SetPassword(r.Context(), name, in.Password.Old, in.Password.New)
		if errors.Is(err, users.ErrPassword) {
			return nil, problemInvalid.With("the old password is wrong")
		}
		return nil, userProblem(err)
	})
	if err != nil {
		return err
	}
	refund()
	u, err := st.users.Get(r.Context(), name)
	if err != nil {
		return userProblem(err)
	}
	session, err := s.begin(w, r, u) // all sessions of the user have ended, this one too
	if err != nil {
		return err
	}
	s.writeSession(w, session)
	return nil
}

func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func (s *Service) putRole(w http.ResponseWriter, r *http.Request, c *call, name string, role users.Role) error {
	st := s.stores.Load()
	before, err := st.users.Get(r.Context(), name)
	if err != nil {
		return userProblem(err)
	}
	what := intent{action: "user.role", target: before.Name, before: roleOf{before.Role}, after: roleOf{role}}
	err = s.act(r.Context(), c, what, func() (any, error) {
		_, err := st.users.SetRole(r.Context(), name, role)
		return nil, userProblem(err)
	})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"name": before.Name, "role": string(role)})
	return nil
}

// resetPassword gives a user a new password, which is in the answer, and ends its
// sessions.
func (s *Service) resetPassword(w http.ResponseWriter, r *http.Request, c *call, name string) error {
	st := s.stores.Load()
	u, err := st.users.Get(r.Context(), name)
	if err != nil {
		return userProblem(err)
	}
	var password string
	err = s.act(r.Context(), c, intent{action: "user.reset", target: u.Name}, func() (_ any, err error) {
		password, err = st.users.Reset(r.Context(), name)
		return nil, userProblem(err)
	})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"name": u.Name, "password": password})
	return nil
}

func (s *Service) deleteUser(w http.ResponseWriter, r *http.Request, c *call) error {
	name, err := pathParam(r, "name")
	if err != nil {
		return err
	}
	st := s.stores.Load()
	before, err := st.users.Get(r.Context(), name)
	if err != nil && !errors.Is(err, users.ErrNotFound) { // a damaged one is not found, and can be removed
		return userProblem(err)
	}
	err = s.act(r.Context(), c, intent{action: "user.remove", target: name, before: roleOf{before.Role}},
		func() (any, error) { return nil, userProblem(st.users.Remove(r.Context(), name)) })
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
