package gateway

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
)

// Mount adds the gateway's routes: the API at a glance.
func (s *Service) Mount(r chi.Router) {
	r.Get("/ws", s.serveWebSocket)
	r.Get("/sse", s.serveEvents)
	r.Options("/sse", s.allowReadingPreflight)
	for _, path := range []string{"/socket.io", "/socket.io/"} {
		r.HandleFunc(path, s.serveSocketIO)
		r.Options(path, s.allowSocketIOPreflight)
	}
	for _, path := range []string{"/app", "/app/*"} {
		r.Get(path, s.servePusher)
	}
	s.mountPages(r)
}

// Words reports whether the gateway itself tells this request that there is no
// room for it, in the
// words of the client's protocol.
func Words(r *http.Request) bool {
	switch r.URL.Path {
	case "/ws", "/sse", "/socket.io", "/socket.io/":
		return true
	}
	return strings.HasPrefix(r.URL.Path, "/app/")
}
