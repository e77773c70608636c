package gateway

import "github.com/go-chi/chi/v5"

// Mount adds the gateway's routes: the API at a glance.
func (s *Service) Mount(r chi.Router) {
	r.Get("/ws", s.serveWebSocket)
	r.Get("/sse", s.serveEvents)
	r.Options("/sse", s.allowEvents)
	s.mountPages(r)
}
