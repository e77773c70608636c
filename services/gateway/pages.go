package gateway

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"regexp"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// contentSecurityPolicy lets the pages use their own scripts, styles and
// images, and nothing else. "ws: wss:" is for browsers to whom 'self' does not
// mean the WebSocket of the same host.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// mountPages serves the demo page at / and the folders it uses. favicon.ico
// in the working folder or in config/ replaces the built-in one, as it did in
// the predecessor.
func (s *Service) mountPages(r chi.Router) {
	if s.deps.Pages == nil {
		return
	}
	r.Get("/", func(w http.ResponseWriter, r *http.Request) { s.servePage(w, r, demoPage) })
	// Pages of allowed origins may import the client; for others it is a file that
	// their browser does not let them use.
	r.Options("/client/*", s.allowReadingPreflight)
	r.Get("/client/*", func(w http.ResponseWriter, r *http.Request) {
		p := s.pageOf(r)
		if !p.allowed {
			s.refused(r, "origin", http.StatusForbidden, 0,
				"the page got the file, and its browser does not let it use it; add "+p.origin+
					" to HERALD_ALLOWED_ORIGINS if it should")
			s.strangers.report(s, r, p.origin)
		}
		s.shareWith(w, p)
		s.servePage(w, r, "client/"+chi.URLParam(r, "*"))
	})
	for _, folder := range []string{"demo", "shared"} {
		r.Get("/"+folder+"/*", func(w http.ResponseWriter, r *http.Request) {
			s.servePage(w, r, folder+"/"+chi.URLParam(r, "*"))
		})
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

// types are set by hand: on Windows the registry may say that a script is
// plain text, and nosniff then stops it.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".ico": "image/x-icon",
}

const demoPage = "demo/index.html"

// consoleLink is where the demo page offers the console. It is left out where there is none
// for who asks.
var consoleLink = regexp.MustCompile(`\s*<a href="admin/">[^<]*</a>`)

// servePage serves a file of the embedded pages. They have no modification
// time, so a hash of the content is what browsers ask with (ETag).
func (s *Service) servePage(w http.ResponseWriter, r *http.Request, name string) {
	b, err := fs.ReadFile(s.deps.Pages, name)
	if err != nil { // nothing there, a folder, or a path with ".."
		httpx.WriteProblem(w, r, s.log, proto.ProblemNotFound.With(r.URL.Path))
		return
	}
	if name == demoPage && (s.deps.Console == nil || !s.deps.Console(r)) {
		b = consoleLink.ReplaceAll(b, nil)
	}
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", types[path.Ext(name)])
	h.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(b)))
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}
