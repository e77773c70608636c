package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "github.com/herald-push/herald/"

// The architecture as code: who may not depend on whom, directly or through
// others, each with its reason. A name that ends in a slash bans all below it.
var bans = []struct {
	packages string // go list pattern
	not      []string
	reason   string
}{
	{module + "proto", []string{module + "services/", module + "web", "github.com/nats-io/", "golang.org/x/",
		"go.yaml.in/"},
		"the contract is for everybody: standard library only"},
	{module + "web", []string{module + "services/", module + "proto"},
		"the pages are files; mains hand them in"},
	{module + "services/internal/config", []string{module + "services/", "net/http"},
		"settings are read before anything else exists"},
	{module + "services/internal/...", []string{module + "services/ingest", module + "services/gateway",
		module + "services/logger", module + "services/admin", module + "services/allinone", module + "web",
		"github.com/gorilla/", "modernc.org/"},
		"arrows point one way: services depend on internal"},
	{module + "services/gateway/internal/hub", []string{"github.com/nats-io/", "github.com/gorilla/",
		module + "services/"},
		"the hub knows neither sockets nor NATS"},
	{module + "services/gateway/internal/ws", []string{"github.com/nats-io/", "github.com/prometheus/",
		"golang.org/x/sys/", module + "services/"},
		"a codec is bytes in, frames out: no socket and no metric"},
	{module + "services/gateway/internal/socket", []string{"github.com/nats-io/", "github.com/prometheus/",
		"github.com/gorilla/", module + "proto", module + "services/"},
		"a socket moves bytes, whatever they mean"},
	{module + "services/gateway/internal/conn", []string{"github.com/nats-io/", module + "services/internal/",
		module + "services/gateway/internal/hub", module + "services/gateway/internal/sse",
		module + "services/gateway/internal/socketio", module + "services/gateway/internal/engineio"},
		"a connection knows neither NATS nor subscriptions; of this project it knows the contract, the codec " +
			"and the socket"},
	{module + "services/gateway/internal/sse", []string{"github.com/gorilla/", "github.com/nats-io/",
		module + "services/"},
		"a protocol is bytes in, bytes out"},
	{module + "services/gateway/internal/socketio", []string{"github.com/gorilla/", "github.com/nats-io/",
		module + "services/"},
		"a protocol is bytes in, bytes out"},
	{module + "services/gateway/internal/engineio", []string{"github.com/nats-io/", module + "services/internal/",
		module + "services/gateway/internal/hub", module + "services/gateway/internal/socketio"},
		"a transport knows connections and sockets, and not what they are for"},
	{module + "services/admin/...", []string{module + "services/ingest", module + "services/gateway",
		module + "services/logger", module + "services/allinone", "github.com/gorilla/", "modernc.org/",
		"github.com/nats-io/nats-server/"},
		"services never import each other; the console asks them over NATS; sockets, SQLite and nats-server have " +
			"one home each"},
	{module + "services/ingest/...", []string{module + "services/gateway", module + "services/logger",
		module + "services/admin", module + "services/allinone", module + "web", "github.com/gorilla/", "modernc.org/",
		"github.com/nats-io/nats-server/"},
		"services never import each other; sockets, SQLite and nats-server have one home each"},
	{module + "services/ingest/internal/publish", []string{module + "services/internal/auth",
		module + "services/internal/keystore"},
		"who may publish is decided before"},
	{module + "services/gateway/...", []string{module + "services/ingest", module + "services/logger",
		module + "services/admin", module + "services/allinone", "modernc.org/", "github.com/nats-io/nats-server/"},
		"services never import each other; SQLite and nats-server have one home each"},
	{module + "services/logger/...", []string{module + "services/ingest", module + "services/gateway",
		module + "services/admin", module + "services/allinone", module + "web", "github.com/gorilla/",
		"github.com/nats-io/nats-server/"},
		"services never import each other; sockets and nats-server have one home each"},
}

func TestArchitecture(t *testing.T) {
	for _, ban := range bans {
		self := strings.TrimSuffix(ban.packages, "/...")
		for dep := range strings.FieldsSeq(golist(t, "-deps", ban.packages)) {
			for _, not := range ban.not {
				hit := dep == not || strings.HasPrefix(dep, strings.TrimSuffix(not, "/")+"/")
				if hit && dep != self && !strings.HasPrefix(dep, self+"/") {
					t.Errorf("%s depends on %s: %s", ban.packages, dep, ban.reason)
				}
			}
		}
	}
}

// Only these import gorilla, SQLite and nats-server themselves.
func TestOneHomeEach(t *testing.T) {
	homes := map[string][]string{
		"github.com/gorilla/websocket":             {"services/gateway/internal/ws", "services/allinone", "bench"},
		"modernc.org/sqlite":                       {"services/logger/internal/store"},
		"github.com/nats-io/nats-server/v2/server": {"services/internal/natsd"},
		"fyne.io/systray":                          {"services/allinone/internal/desktop"},
	}
	out := golist(t, "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "work")
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.HasPrefix(fields[0], module) {
			continue
		}
		for _, imported := range fields[1:] {
			if home, ok := homes[imported]; ok && !slices.Contains(home, strings.TrimPrefix(fields[0], module)) {
				t.Errorf("%s imports %s, whose home is %v", fields[0], imported, home)
			}
		}
	}
}

func golist(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// Elapsed time is measured on the clock that nobody sets (services/internal/monotonic);
// the wall clock says when something happened, in files and messages.
func TestElapsedTimeIsMonotonic(t *testing.T) {
	wall := regexp.MustCompile(
		`time\.Since\(time\.Unix|time\.Now\(\)\.Unix(Nano|Micro|Milli)?\(\) *-|Store\(time\.Now\(\)\.Unix`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		// metrics.go of the logger has the age of a message, whose time is NATS's.
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			path == filepath.Join("..", "logger", "metrics.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n, line := range strings.Split(string(b), "\n") {
			if wall.MatchString(line) {
				t.Errorf("%s:%d measures elapsed time on the wall clock: %s", path, n+1, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// maxLines is how long a Go file may be: one that is longer has two subjects.
const maxLines = 400

// maxColumns is the longest line; a tab counts as the four columns that editors and code review give it.
const maxColumns = 120

// unbreakable begins the only longer lines: Prometheus' text format, in the tests of metrics, has one line for a help
// text.
const unbreakable = "# HELP "

func TestFilesAreShort(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		b, err := os.ReadFile(path)
		if n := strings.Count(string(b), "\n"); n > maxLines {
			t.Errorf("%s has %d lines, more than %d", path, n, maxLines)
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			columns := utf8.RuneCountInString(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    "))
			if columns > maxColumns && !strings.HasPrefix(line, unbreakable) {
				t.Errorf("%s:%d has %d columns, more than %d", path, n, columns, maxColumns)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
