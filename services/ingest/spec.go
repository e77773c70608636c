package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/herald-push/herald/proto"
	"go.yaml.in/yaml/v3"
)

// openAPI is proto's openapi.yaml as JSON.
func openAPI() ([]byte, error) {
	var doc any
	if err := yaml.Unmarshal(proto.OpenAPI, &doc); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return b, nil
}

// getOpenAPI is GET /openapi.json, for anyone: tools on other origins may
// read it too.
func (s *Service) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(s.openapi) // a client that hung up misses only its own answer
}
