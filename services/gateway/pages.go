package gateway

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// contentSecurityPolicy lets the pages use their own scripts and styles and
// connect to where they came from, and nothing else.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// mountPages serves the demo page at / and the folders it uses. favicon.ico
// in the working folder or in config/ replaces the built-in one, as it did in
// the predecessor.
func (s *Service) mountPages(r chi.Router) {
	if s.deps.Pages == nil {
		return
	}
	r.Get("/", s.page("demo/index.html"))
	for _, folder := range []string{"demo", "client", "shared"} {
		r.Get("/"+folder+"/*", func(w http.ResponseWriter, r *http.Request) { s.servePage(w, r, path.Clean(r.URL.Path)[1:]) })
	}
	r.Get("/favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		for _, own := range []string{"favicon.ico", "config/favicon.ico"} {
			if b, err := os.ReadFile(own); err == nil {
				w.Header().Set("Content-Type", "image/x-icon")
				_, _ = w.Write(b) // a client that hung up misses only its own answer
				return
			}
		}
		s.servePage(w, r, "favicon.ico")
	})
}

func (s *Service) page(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.servePage(w, r, name) }
}

func (s *Service) servePage(w http.ResponseWriter, r *http.Request, name string) {
	info, err := fs.Stat(s.deps.Pages, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() || errors.Is(err, fs.ErrInvalid) {
		httpx.WriteProblem(w, r, s.log, proto.ProblemNotFound.With(r.URL.Path))
		return
	}
	w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, s.deps.Pages, name)
}
