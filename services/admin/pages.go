package admin

import (
	"bytes"
	"compress/gzip"
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

// folders are those of the pages that stand under their own names below /admin/.
// The page itself is admin/index.html at /admin/, one level up, so that its
// relative references fit the files and the URLs alike.
var folders = []string{"admin", "shared", "third_party"}

// types are set by hand: on Windows the registry may say that a script is plain
// text, and nosniff then stops it.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".mjs": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".ico": "image/x-icon", ".png": "image/png", ".woff2": "font/woff2",
	".txt": "text/plain; charset=utf-8", ".md": "text/plain; charset=utf-8", "": "text/plain; charset=utf-8",
}

// mountPages serves the page and its files. They need no session: who is not
// logged in sees the login.
func (s *Service) mountPages(r chi.Router) {
	httpx.Get(r, "/*", func(w http.ResponseWriter, r *http.Request) {
		name := chi.URLParam(r, "*")
		top, _, below := strings.Cut(name, "/")
		switch {
		case name == "":
			name = "admin/index.html"
		case name == "favicon.ico", below && slices.Contains(folders, top):
		default:
			name = ""
		}
		if name == "" || s.deps.Pages == nil {
			httpx.WriteProblem(w, r, s.log, proto.ProblemNotFound.With(r.URL.Path))
			return
		}
		s.servePage(w, r, name)
	})
}

// servePage serves a file of the embedded pages, compressed where the browser accepts that.
// They have no modification time, so a hash of the content is what browsers ask
// with (ETag).
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
	h.Set("Vary", "Accept-Encoding")
	tag := fmt.Sprintf("%x", sha256.Sum256(b))
	if httpx.TakesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		tag += "-gzip"
		b = s.compressed(tag, b)
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}

// compressed keeps what it has compressed once: the embedded pages are few and
// never change.
func (s *Service) compressed(tag string, b []byte) []byte {
	if kept, ok := s.gzipped.Load(tag); ok {
		return kept.([]byte)
	}
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is a valid one
	_, _ = z.Write(b)                                       // a bytes.Buffer takes everything
	_ = z.Close()
	s.gzipped.Store(tag, out.Bytes())
	return out.Bytes()
}
