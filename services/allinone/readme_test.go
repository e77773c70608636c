package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config"
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
	port := freePort(t)
	p := start(t, "herald", t.TempDir(), nil, "-listen", "127.0.0.1:"+port)
	p.waitFor("is ready")
	resp, err := http.Get("http://127.0.0.1:" + port + "/metrics")
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
	// Vectors without a value yet are not served: the README may have more rows, each of a name that the code has.
	for _, row := range rows {
		if !strings.Contains(text, row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
	if t.Failed() {
		t.Logf("all rows:\n%s", strings.Join(rows, "\n"))
	}
	p.stop(20e9)
}
