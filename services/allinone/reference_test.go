package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/proctest"
)

var writeDocs = flag.Bool("write-docs", false, "write the tables of docs/reference, made from the code")

// holdReference compares what stands between the marks of a page of docs/reference with
// what the code says, or, with -write-docs, writes it there.
func holdReference(t *testing.T, page, name, want string) {
	t.Helper()
	holdBetween(t, "docs/reference/"+page, name, want)
}

// holdBetween is holdReference for any page of the project.
func holdBetween(t *testing.T, page, name, want string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(page))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, marked := strings.Cut(string(b), begin)
	got, after, ended := strings.Cut(rest, end)
	if !marked || !ended {
		t.Fatalf("%s lacks the marks %s and %s", page, begin, end)
	}
	if got == want {
		return
	}
	if !*writeDocs {
		t.Errorf("%s is not what it is made from: make docs writes it. Lines that are missing or too many:\n%s", page,
			difference(got, want))
		return
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// difference is the lines that only one of two texts has.
func difference(got, want string) string {
	var out strings.Builder
	for _, side := range []struct{ sign, in, other string }{{"-", got, want}, {"+", want, got}} {
		has := map[string]bool{}
		for line := range strings.Lines(side.other) {
			has[line] = true
		}
		for line := range strings.Lines(side.in) {
			if !has[line] {
				out.WriteString(side.sign + line)
			}
		}
	}
	return out.String()
}

// The table of settings is that of the code, row by row.
func TestSettingsReference(t *testing.T) {
	cfg := defaultConfig()
	rows := settingRows(cfg.settings())
	holdReference(t, "settings.md", "settings", "| flag / variable | what it is |\n| --- | --- |\n"+
		strings.Join(rows, "\n")+"\n")
}

// The commands are explained as herald COMMAND -h explains them.
func TestCommandsReference(t *testing.T) {
	var text strings.Builder
	for _, c := range commands() {
		var help bytes.Buffer
		err := c.execute(t.Context(), &call{args: []string{"-h"}, env: configtest.Vars(nil),
			std: streams{out: &help, err: &help}})
		if err != nil {
			t.Errorf("herald %s -h: %v", c.name, err)
		}
		out, settings, _ := strings.Cut(help.String(), "\nSettings (")
		// theirs are all of the settings
		if !slices.Contains([]string{"serve", "desktop", "service"}, c.name) && settings != "" {
			out += "\nSettings (" + settings
		}
		fmt.Fprintf(&text, "\n## herald %s\n\n```text\n%s\n```\n", c.name, strings.TrimSpace(out))
	}
	holdReference(t, "commands.md", "commands", text.String()+"\n")
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

// The table of metrics is what the binary serves, by metric, and every metric of the code is in it.
func TestMetricsReference(t *testing.T) {
	port, ops := proctest.FreePort(t), proctest.FreePort(t)
	p := start(t, "allinone", t.TempDir(), nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "127.0.0.1:"+ops)
	p.WaitFor("is ready")
	families := proctest.Metrics(t, "http://127.0.0.1:"+ops+"/metrics")
	p.Stop(20e9)

	// Vectors without a value yet are not served: their names come from the code.
	known := map[string]bool{}
	for name := range families {
		if strings.HasPrefix(name, "herald_") {
			known[name] = true
		}
	}
	quoted := regexp.MustCompile(`"(herald_(?:admin|gateway|ingest|logger|build|nats|stream)_[a-z_]+)"`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
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
	b, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(herald_[a-z_]+)` \\| .*\n").FindAllStringSubmatch(string(b), -1) {
		if known[m[1]] { // of others nobody would have a value
			rows[m[1]] = m[0]
		}
	}
	for name, f := range families {
		if known[name] {
			rows[name] = fmt.Sprintf("| `%s` | %s | %s |\n", name, strings.ToLower(f.GetType().String()), f.GetHelp())
		}
	}
	text := "| metric | kind | what it says |\n| --- | --- | --- |\n"
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if rows[name] == "" {
			t.Errorf("docs/reference/metrics.md lacks %s, which is not served without a value: write its row", name)
		}
		text += rows[name]
	}
	holdReference(t, "metrics.md", "metrics", text)
}

// Every variable of a setting is one that is not taken for a spelling mistake.
func TestSettingsHaveKnownVariables(t *testing.T) {
	cfg := defaultConfig()
	settings := cfg.settings()
	for _, c := range commands() {
		settings = append(settings,
			c.start(&call{env: configtest.Vars(nil), std: streams{out: io.Discard, err: io.Discard}}).settings...)
	}
	for _, s := range settings {
		if s.Env != "" && (!config.Known(s.Env) || s.Secret && !config.Known(s.Env+"_FILE")) {
			t.Errorf("config does not know %s", s.Env)
		}
	}
}
