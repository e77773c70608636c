package main

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The README's table of settings is that of the code, row by row.
func TestSettingsInReadme(t *testing.T) {
	text := readme(t)
	cfg := defaultConfig()
	rows := settingRows(cfg.settings())
	for _, row := range rows {
		if !strings.Contains(text, row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
	if got := len(regexp.MustCompile("(?m)^\\| `(-|HERALD_)").FindAllString(text, -1)); got != len(rows) {
		t.Errorf("README.md has %d rows with settings, want %d; want exactly\n%s", got, len(rows), strings.Join(rows, "\n"))
	}
}

func settingRows(settings []config.Setting) []string {
	slices.SortFunc(settings, func(a, b config.Setting) int { return strings.Compare(a.Env, b.Env) })
	var rows []string
	for _, s := range settings {
		name := "`" + s.Env + "`"
		if s.Flag != "" {
			name = "`-" + s.Flag + "` / " + name
		}
		if s.Secret {
			name += " / `" + s.Env + "_FILE`"
		}
		help := s.Help
		if d := s.Default(); d != "" {
			help += "; default `" + d + "`"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s |", name, help))
	}
	return rows
}

// The README's table of metrics is what the binary serves.
func TestMetricsInReadme(t *testing.T) {
	port, ops := proctest.FreePort(t), proctest.FreePort(t)
	p := start(t, "allinone", t.TempDir(), nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "127.0.0.1:"+ops)
	p.WaitFor("is ready")
	resp, err := http.Get("http://127.0.0.1:" + ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for name, f := range families {
		if strings.HasPrefix(name, "herald_") {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", name, strings.ToLower(f.GetType().String()), f.GetHelp()))
		}
	}
	sort.Strings(rows)
	text := readme(t)
	for _, row := range rows {
		if !strings.Contains(text, row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
	p.Stop(20e9)

	// Vectors without a value yet are not served: their names come from the code.
	known := map[string]bool{}
	for name := range families {
		if strings.HasPrefix(name, "herald_") {
			known[name] = true
		}
	}
	quoted := regexp.MustCompile(`"(herald_(?:gateway|ingest|logger|build|nats|stream)_[a-z_]+)"`)
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range quoted.FindAllStringSubmatch(string(b), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range known {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("README.md lacks the metric %s", name)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(herald_[a-z_]+)`").FindAllStringSubmatch(text, -1) {
		if !known[m[1]] {
			t.Errorf("README.md has the metric %s, which nobody serves", m[1])
		}
	}
}

// Every variable of a setting is one that is not taken for a spelling mistake.
func TestSettingsHaveKnownVariables(t *testing.T) {
	cfg := defaultConfig()
	settings := cfg.settings()
	for _, c := range commands() {
		settings = append(settings, c.start(&call{env: config.Vars(nil), std: streams{out: io.Discard, err: io.Discard}}).settings...)
	}
	for _, s := range settings {
		if s.Env != "" && (!config.Known(s.Env) || s.Secret && !config.Known(s.Env+"_FILE")) {
			t.Errorf("config does not know %s", s.Env)
		}
	}
}
