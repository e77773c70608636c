package gateway

import "github.com/go-chi/chi/v5"

// Mount adds the gateway's routes: the API at a glance.
func (s *Service) Mount(r chi.Router) {
	r.Get("/ws", s.serveWebSocket)
	s.mountPages(r)
}
