package ingest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
)

const protoDir = "../../proto/"

// Every route that ingest serves is described.
func TestRoutesAreInOpenAPI(t *testing.T) {
	s, r := theSpec(t), chi.NewRouter()
	start(t, startNATS(t), func(c *Config, _ *Deps) { c.Listen = "" }).Mount(r)
	described := s.docs["openapi.yaml"]["paths"].(map[string]any)
	n := 0
	err := chi.Walk(r, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == http.MethodHead { // as GET
			return nil
		}
		n++
		path, _ := described[route].(map[string]any)
		if path[strings.ToLower(method)] == nil {
			t.Errorf("openapi.yaml does not describe %s %s", method, route)
		}
		return nil
	})
	if err != nil || n != 11 {
		t.Errorf("walked %d routes, want 11: %v", n, err)
	}
}

// What /openapi.json serves is openapi.yaml, to anyone.
func TestOpenAPIIsServed(t *testing.T) {
	r := start(t, startNATS(t))
	a := r.do(http.MethodGet, "/openapi.json", nil, "X-API-KEY:", "Origin: https://editor.example")
	var doc map[string]any
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != http.StatusOK {
		t.Fatalf("got %d, %v", a.status, err)
	}
	paths, _ := doc["paths"].(map[string]any)
	if want := theSpec(t).docs["openapi.yaml"]["paths"].(map[string]any); len(paths) != len(want) {
		t.Errorf("paths: got %d, want %d", len(paths), len(want))
	}
	if got := a.header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("Access-Control-Allow-Origin: got %q, want *", got)
	}
}

// goldens says which schema describes each golden file of proto/testdata.
var goldens = map[string]string{
	"message.json":            "openapi.yaml#/components/schemas/Message",
	"message-ephemeral.json":  "openapi.yaml#/components/schemas/Message",
	"message-body.json":       "asyncapi.yaml#/components/schemas/Body",
	"publication.json":        "openapi.yaml#/components/schemas/Publication",
	"result.json":             "openapi.yaml#/components/schemas/Result",
	"problem.json":            "openapi.yaml#/components/schemas/Problem",
	"welcome.json":            "asyncapi.yaml#/components/schemas/Welcome",
	"subscribed.json":         "asyncapi.yaml#/components/schemas/Subscribed",
	"unsubscribed.json":       "asyncapi.yaml#/components/schemas/Unsubscribed",
	"authenticated.json":      "asyncapi.yaml#/components/schemas/Authenticated",
	"gap.json":                "asyncapi.yaml#/components/schemas/Gap",
	"error.json":              "asyncapi.yaml#/components/schemas/Error",
	"position.json":           "asyncapi.yaml#/components/schemas/Position",
	"pong.json":               "asyncapi.yaml#/components/schemas/Pong",
	"client-subscribe.json":   "asyncapi.yaml#/components/schemas/Subscribe",
	"client-unsubscribe.json": "asyncapi.yaml#/components/schemas/Unsubscribe",
	"client-ping.json":        "asyncapi.yaml#/components/schemas/Ping",
	"client-auth.json":        "asyncapi.yaml#/components/schemas/Auth",
}

func TestGoldenFilesHaveSchemas(t *testing.T) {
	files, err := filepath.Glob(protoDir + "testdata/*.json")
	if err != nil || len(files) < len(goldens) {
		t.Fatalf("golden files: got %d, want at least %d: %v", len(files), len(goldens), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "names.json" { // no message: TestNamesAgainstSchemas
			continue
		}
		place, ok := goldens[name]
		if !ok {
			t.Errorf("%s: no schema is named for it", name)
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := theSpec(t).validate(place, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The regular expressions take exactly the names that proto takes.
func TestNamesAgainstSchemas(t *testing.T) {
	b, err := os.ReadFile(protoDir + "testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var names []struct {
		Name             string
		Channel, Pattern bool
	}
	if err := json.Unmarshal(b, &names); err != nil || len(names) == 0 {
		t.Fatalf("names.json: %v", err)
	}
	check := func(schema, name string, want bool) {
		t.Helper()
		quoted, _ := json.Marshal(name)
		if err := theSpec(t).validate("openapi.yaml#/components/schemas/"+schema, quoted); (err == nil) != want {
			t.Errorf("%s %q: got %v, want valid %v", schema, name, err, want)
		}
	}
	for _, n := range names {
		check("Channel", n.Name, n.Channel)
		check("Pattern", n.Name, n.Pattern)
	}
	for b := range 256 { // and every byte by itself
		name := "a" + string(rune(b)) + "b"
		check("Channel", name, proto.CheckChannel(name) == nil)
		check("Pattern", name, proto.CheckPattern(name) == nil)
		check("Event", name, proto.CheckEvent(name) == nil)
		check("Sender", name, proto.CheckName(name) == nil)
		check("IdempotencyKey", name, proto.CheckKey(name) == nil)
	}
	for _, r := range []rune{0x2028, 0x2029, 'ü', '世'} {
		check("Event", string(r), proto.CheckEvent(string(r)) == nil)
		check("Sender", string(r), proto.CheckName(string(r)) == nil)
	}
	for _, n := range []int{proto.MaxNameBytes, proto.MaxNameBytes + 1, proto.MaxEventBytes, proto.MaxEventBytes + 1} {
		name := strings.Repeat("a", n)
		check("Event", name, proto.CheckEvent(name) == nil)
		check("Sender", name, proto.CheckName(name) == nil)
	}
}

// Lists that stand in proto and in the documents are the same.
func TestListsInSpecs(t *testing.T) {
	listed := func(doc string, path ...string) []string {
		t.Helper()
		v, place := theSpec(t).at(doc, path...)
		items, ok := v.([]any)
		if !ok {
			t.Fatalf("%s is no list", place)
		}
		var out []string
		for _, item := range items {
			out = append(out, fmt.Sprint(item))
		}
		return out
	}
	same := func(what string, got, want []string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%s:\n got %v\nwant %v", what, got, want)
		}
	}
	var problems []string
	source, err := os.ReadFile("../../proto/problem.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`= problem\("([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		problems = append(problems, "urn:herald:problem:"+name[1])
	}
	same("problems", listed("openapi.yaml", "components", "schemas", "Problem", "properties", "type", "enum"), problems)
	same("results", listed("openapi.yaml", "components", "schemas", "LineResult", "properties", "status", "enum"),
		[]string{proto.StatusStored, proto.StatusDuplicate, proto.StatusSent, proto.StatusFailed, proto.StatusInvalid})
	same("gaps", listed("asyncapi.yaml", "components", "schemas", "Gap", "properties", "reason", "enum"),
		[]string{proto.GapExpired, proto.GapEpoch, proto.GapLimit, proto.GapDamaged})

	codes := []string{proto.ErrorForbidden, proto.ErrorBadChannel, proto.ErrorBadSince, proto.ErrorBadToken,
		proto.ErrorLimit}
	var closes []string
	for _, c := range proto.CloseCodes() {
		codes = append(codes, c.String())
		closes = append(closes, fmt.Sprintf("map[code:%d comeBack:%v name:%s]", c, c.ComeBack(), c))
	}
	same("codes of error frames", listed("asyncapi.yaml", "components", "schemas", "Error", "properties",
		"code", "enum"),
		codes)
	same("close codes", listed("asyncapi.yaml", "x-close-codes"), closes)
}

// Each example in the documents is valid against the schema beside it, and
// each schema compiles.
func TestExamplesInSpecs(t *testing.T) {
	spec := theSpec(t)
	examples := 0
	try := func(place string, value any) {
		t.Helper()
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		examples++
		if err := spec.validate(place, b); err != nil {
			t.Errorf("example for %s: %s\n%v", place, b, err)
		}
	}
	// walk looks for what has a schema and examples: media types, parameters.
	var walk func(v any, place string)
	walk = func(v any, place string) {
		switch v := v.(type) {
		case map[string]any:
			if v["schema"] != nil {
				schema, at := spec.deref(v["schema"], place+"/schema")
				if _, err := spec.compile(at); err != nil || schema == nil {
					t.Errorf("schema at %s: %v", place, err)
				}
				list, _ := v["examples"].(map[string]any)
				for _, e := range list {
					try(at, e.(map[string]any)["value"])
				}
				if e := v["example"]; e != nil {
					try(at, e)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(v)) {
				escaped := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(name)
				walk(v[name], place+"/"+escaped)
			}
		case []any:
			for i, item := range v {
				walk(item, place+"/"+strconv.Itoa(i))
			}
		}
	}
	walk(spec.docs["openapi.yaml"]["paths"], "openapi.yaml#/paths")
	walk(spec.docs["openapi.yaml"]["components"], "openapi.yaml#/components")
	for doc := range spec.docs {
		schemas, _ := spec.at(doc, "components", "schemas")
		for name, schema := range schemas.(map[string]any) {
			place := doc + "#/components/schemas/" + name
			if _, err := spec.compile(place); err != nil {
				t.Errorf("%s: %v", place, err)
			}
			list, _ := schema.(map[string]any)["examples"].([]any)
			for _, e := range list {
				try(place, e)
			}
		}
	}
	messages, _ := spec.at("asyncapi.yaml", "components", "messages")
	for name, m := range messages.(map[string]any) {
		for _, part := range []string{"payload", "headers"} {
			for _, e := range m.(map[string]any)["examples"].([]any) {
				if value := e.(map[string]any)[part]; value != nil {
					_, place := spec.at("asyncapi.yaml", "components", "messages", name, part)
					try(place, value)
				}
			}
		}
	}
	if examples < 50 {
		t.Errorf("%d examples were checked, want at least 50", examples)
	}
}

// Every reference in the documents leads somewhere.
func TestReferencesInSpecs(t *testing.T) {
	spec := theSpec(t)
	var walk func(v any, doc, place string)
	walk = func(v any, doc, place string) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if target, _ := spec.deref(map[string]any{"$ref": ref}, doc+"#"); target == nil {
					t.Errorf("%s: %s leads nowhere", place, ref)
				}
			}
			for name, member := range v {
				walk(member, doc, place+"/"+name)
			}
		case []any:
			for i, item := range v {
				walk(item, doc, place+"/"+strconv.Itoa(i))
			}
		}
	}
	for doc := range spec.docs {
		walk(spec.docs[doc], doc, doc+"#")
	}
}
