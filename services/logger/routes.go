package logger

import (
	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Mount adds the logger's routes: the HTTP API at a glance.
func (s *Service) Mount(r chi.Router) {
	httpx.Get(r, "/v1/log", s.getLog)
}
