package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// spec is openapi.yaml and asyncapi.yaml, decoded, with a compiler that
// resolves references between them.
type spec struct {
	docs     map[string]map[string]any
	mu       sync.Mutex
	compiler *jsonschema.Compiler // guarded by mu
}

// loadSpec reads both documents once for all tests.
var loadSpec = sync.OnceValues(func() (*spec, error) {
	s := &spec{docs: map[string]map[string]any{}, compiler: jsonschema.NewCompiler()}
	s.compiler.DefaultDraft(jsonschema.Draft2020)
	s.compiler.AssertFormat()
	for _, name := range []string{"openapi.yaml", "asyncapi.yaml"} {
		b, err := os.ReadFile(protoDir + name)
		if err != nil {
			return nil, err
		}
		var doc any
		if err := yaml.Unmarshal(b, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if b, err = json.Marshal(doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.docs[name] = doc.(map[string]any)
		if err := s.compiler.AddResource("file:///"+name, doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, nil
})

func theSpec(t testing.TB) *spec {
	t.Helper()
	s, err := loadSpec()
	if err != nil {
		t.Fatalf("specs: %v", err)
	}
	return s
}

// at follows a path of members in a document, and references on the way. It
// returns nil where there is nothing, and the place that it came to.
func (s *spec) at(doc string, path ...string) (any, string) {
	var v any = s.docs[doc]
	place := doc + "#"
	for _, name := range path {
		v, place = s.deref(v, place)
		m, _ := v.(map[string]any)
		v = m[name]
		place += "/" + strings.NewReplacer("~", "~0", "/", "~1", "%", "%25", "{", "%7B", "}", "%7D").Replace(name)
	}
	return s.deref(v, place)
}

func (s *spec) deref(v any, place string) (any, string) {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok || len(m) > 1 { // beside other members it is a schema's
		return v, place
	}
	file, pointer, _ := strings.Cut(ref, "#/")
	if file == "" {
		file, _, _ = strings.Cut(place, "#")
	}
	return s.at(file, strings.Split(pointer, "/")...)
}

func (s *spec) compile(place string) (*jsonschema.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compiler.Compile("file:///" + place)
}

// validate holds a value against the schema at a place such as
// "openapi.yaml#/components/schemas/Result".
func (s *spec) validate(place string, value []byte) error {
	schema, err := s.compile(place)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return fmt.Errorf("%s: %w", value, err)
	}
	return schema.Validate(v)
}

// operation finds what openapi.yaml says about a call.
func (s *spec) operation(method, path string) []string {
	path, _, _ = strings.Cut(path, "?")
	for template := range s.docs["openapi.yaml"]["paths"].(map[string]any) {
		if matchesPath(template, path) {
			return []string{"paths", template, strings.ToLower(method)}
		}
	}
	return nil
}

// matchesPath reports whether a path is one of a template's, in which a segment may
// be a parameter.
func matchesPath(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	return len(want) == len(got) &&
		slices.EqualFunc(want, got, func(w, g string) bool { return w == g || strings.HasPrefix(w, "{") })
}

// conforms returns a function that holds an answer against openapi.yaml: the
// call, its status, its content type and each JSON value in the body.
func conforms(t testing.TB) func(method, path string, a answered) {
	s := theSpec(t)
	return func(method, path string, a answered) {
		t.Helper()
		if method == http.MethodHead { // as GET, without a body
			if a.body != "" {
				t.Errorf("HEAD %s: got a body: %s", path, a.body)
			}
			return
		}
		if a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed {
			if err := s.validate("openapi.yaml#/components/schemas/Problem", []byte(a.body)); err != nil {
				t.Errorf("%s %s: %d: %v", method, path, a.status, err)
			}
			return
		}
		op := s.operation(method, path)
		if op == nil {
			t.Errorf("openapi.yaml has no %s %s", method, path)
			return
		}
		contentType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
		schema, place := s.at("openapi.yaml", append(op, "responses", strconv.Itoa(a.status), "content", contentType,
			"schema")...)
		if schema == nil {
			t.Errorf("openapi.yaml has no answer %d of %s to %s %s; body %s", a.status, contentType, method,
				path, a.body)
			return
		}
		values := [][]byte{[]byte(a.body)}
		switch contentType {
		case "text/plain":
			return
		case "application/x-ndjson":
			values = slices.Collect(bytes.Lines([]byte(a.body)))
		}
		for _, v := range values {
			if err := s.validate(place, v); err != nil {
				t.Errorf("%s %s: %d: %s\n%v", method, path, a.status, v, err)
			}
		}
		if promised, _ := s.at("openapi.yaml", append(op, "responses", strconv.Itoa(a.status), "headers",
			"Retry-After")...); promised != nil {
			if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
				t.Errorf("%s %s: %d with Retry-After %q, want whole seconds", method, path, a.status,
					a.header.Get("Retry-After"))
			}
		}
		if got := a.header.Get("Access-Control-Allow-Origin"); (got != "") != (path == "/openapi.json") {
			t.Errorf("%s %s: Access-Control-Allow-Origin %q; only /openapi.json is for every origin", method, path, got)
		}
	}
}
