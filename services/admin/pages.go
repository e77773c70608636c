package admin

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// folders are those of the pages that stand under their own names below /admin/;
// everything else there is in the folder admin.
var folders = []string{"shared", "third_party", "client"}

// types are set by hand: on Windows the registry may say that a script is plain
// text, and nosniff then stops it.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".ico": "image/x-icon", ".png": "image/png", ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8", ".md": "text/plain; charset=utf-8", "": "text/plain; charset=utf-8",
}

// mountPages serves the page and its files. They need no session: who is not
// logged in sees the login.
func (s *Service) mountPages(r chi.Router) {
	httpx.Get(r, "/*", func(w http.ResponseWriter, r *http.Request) {
		name := chi.URLParam(r, "*")
		switch top, _, below := strings.Cut(name, "/"); {
		case name == "":
			name = "admin/index.html"
		case top == "api" || s.deps.Pages == nil:
			httpx.WriteProblem(w, r, s.log, proto.ProblemNotFound.With(r.URL.Path))
			return
		case below && slices.Contains(folders, top):
		default:
			name = "admin/" + name
		}
		s.servePage(w, r, name)
	})
}

// servePage serves a file of the embedded pages. They have no modification time,
// so a hash of the content is what browsers ask with (ETag).
func (s *Service) servePage(w http.ResponseWriter, r *http.Request, name string) {
	contentType, known := types[path.Ext(name)]
	b, err := fs.ReadFile(s.deps.Pages, name)
	if err != nil || !known { // nothing there, a folder, or a path with ".."
		httpx.WriteProblem(w, r, s.log, proto.ProblemNotFound.With(r.URL.Path))
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", contentType)
	h.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(b)))
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}
