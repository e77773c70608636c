package logger

import "github.com/go-chi/chi/v5"

// Mount adds the logger's routes: the HTTP API at a glance.
func (s *Service) Mount(r chi.Router) {
	r.Get("/v1/log", s.getLog)
}
