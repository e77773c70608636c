package proto

import _ "embed"

// OpenAPI is openapi.yaml, which describes every HTTP call of PROTOCOL.md for
// machines (OpenAPI 3.1). Ingest serves it as /openapi.json. Nobody may change
// the bytes.
//
//go:embed openapi.yaml
var OpenAPI []byte
