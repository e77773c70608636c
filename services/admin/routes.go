package admin

import (
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/httpx"
)

// open is the role of calls that need no session.
const open users.Role = "open"

// route is one call of the page, below /admin/api/.
type route struct {
	method, path string
	role         users.Role // the least that may call it; empty is refused by Mount
	handle       handler
	query        bool // handle reads parameters of the URL; a call of any other route with parameters is refused
}

// A handler answers by itself, or returns the error to answer with. c says who
// calls; for routes that are open it has only the address.
type handler func(w http.ResponseWriter, r *http.Request, c *call) error

// routes are all calls of the page: the API at a glance.
func (s *Service) routes() []route {
	return []route{
		{http.MethodGet, "login", open, s.getLogin, false},
		{http.MethodPost, "login", open, s.postLogin, false},
		{http.MethodPost, "logout", users.Viewer, s.postLogout, false},
		{http.MethodGet, "session", users.Viewer, s.getSession, false},
		{http.MethodGet, "overview", users.Viewer, s.getOverview, true},
		{http.MethodGet, "charts", users.Viewer, s.getCharts, true},
		{http.MethodGet, "connections", users.Viewer, s.getConnections, true},
		{http.MethodPost, "connections/{gateway}/{id}/kick", users.Operator, s.postKick, false},
		{http.MethodPost, "kick", users.Operator, s.postKickMany, false},
		{http.MethodGet, "channels", users.Viewer, s.getChannels, true},
		{http.MethodGet, "addresses", users.Viewer, s.getAddresses, true},
		{http.MethodGet, "refusals", users.Viewer, s.getRefusals, true},
		{http.MethodGet, "messages/{id}", users.Viewer, s.getMessage, false},
		{http.MethodGet, "tail", users.Viewer, s.getTail, true},
		{http.MethodGet, "settings", users.Viewer, s.getSettings, false},
		{http.MethodPut, "settings/{name}", users.Admin, s.putSetting, false},
		{http.MethodDelete, "settings/{name}", users.Admin, s.deleteSetting, false},
		{http.MethodGet, "listen", users.Viewer, s.getListen, false},
		{http.MethodPut, "listen", users.Admin, s.putListen, false},
		{http.MethodPost, "listen/confirm", open, s.confirmListen, false},
		{http.MethodPost, "publish", users.Operator, s.postPublish, false},
		{http.MethodGet, "log", users.Viewer, s.getLog, true},
		{http.MethodGet, "audit", users.Admin, s.getAudit, true},
		{http.MethodGet, "keys", users.Admin, s.getKeys, false},
		{http.MethodPost, "keys", users.Admin, s.postKey, false},
		{http.MethodPost, "keys/{id}/rotate", users.Admin, s.rotateKey, false},
		{http.MethodDelete, "keys/{id}", users.Admin, s.deleteKey, false},
		{http.MethodGet, "apps", users.Admin, s.getApps, false},
		{http.MethodPost, "apps", users.Admin, s.postApp, false},
		{http.MethodPost, "apps/{id}/rotate", users.Admin, s.rotateApp, false},
		{http.MethodDelete, "apps/{id}", users.Admin, s.deleteApp, false},
		{http.MethodGet, "users", users.Admin, s.getUsers, false},
		{http.MethodPost, "users", users.Admin, s.postUser, false},
		// a viewer may change their own password; putUser asks for admin for anything else
		{http.MethodPut, "users/{name}", users.Viewer, s.putUser, false},
		{http.MethodDelete, "users/{name}", users.Admin, s.deleteUser, false},
	}
}

// Mount adds the console below /admin/, unless it is off.
func (s *Service) Mount(r chi.Router) {
	if s.cfg.Console != Off {
		s.mount(r, s.routes())
	}
}

func (s *Service) mount(r chi.Router, routes []route) {
	// Relative, since a proxy may have taken a part of the path away.
	httpx.Get(r, "/admin", s.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "admin/")
		w.WriteHeader(http.StatusPermanentRedirect)
	})).ServeHTTP)
	r.Route("/admin/", func(r chi.Router) {
		r.Use(s.guard)
		for _, route := range routes {
			if route.role != open && !users.Admin.Includes(route.role) {
				panic("admin: no role for " + route.method + " " + route.path)
			}
			r.Method(route.method, "/api/"+route.path, s.allowed(route))
			if route.method == http.MethodGet {
				r.Method(http.MethodHead, "/api/"+route.path, s.allowed(route))
			}
		}
		if s.provider != nil {
			r.Get("/oidc/start", s.startOIDC)
			r.Get("/oidc/callback", s.finishOIDC)
		}
		s.mountPages(r)
	})
}

// allowed lets only those through who may call the route.
func (s *Service) allowed(route route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		c, err := s.admit(r, route)
		if _, unknown := httpx.Query(r, nil); err == nil && !route.query && unknown != nil {
			err = proto.ProblemInvalidParameter.With(unknown.Error())
		}
		if err == nil {
			err = route.handle(w, r, c)
		}
		if err != nil {
			if p := (*proto.Problem)(nil); errors.As(err, &p) && p.Status == http.StatusServiceUnavailable {
				s.doubt() // perhaps what the console keeps is gone
			}
			httpx.WriteProblem(w, r, s.log, err)
		}
	}
}
