package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/proctest"
)

const root = "../.."

// pages are all Markdown files of the project, by their path below its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "node_modules" || name == "third_party" || name == "bin" || name == "dist" &&
			path != root+"/dist" || strings.HasPrefix(name, ".") && path != root) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path) // both are below here
		found[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	inline  = regexp.MustCompile("`[^`\n]+`")
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	linked  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// anchors are the ids that GitHub gives to a page's headings.
func anchors(text string) map[string]bool {
	ids := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		id := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linked.ReplaceAllString(m[1], "]"))
		for n, base := 1, id; ids[id]; n++ {
			id = fmt.Sprintf("%s-%d", base, n)
		}
		ids[id] = true
	}
	return ids
}

// Every link of the documentation leads to a file, and to a heading of it.
func TestDocsLinks(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, m := range linked.FindAllStringSubmatch(inline.ReplaceAllString(fenced.ReplaceAllString(text, ""), ""),
			-1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(page), target))
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, m[1])
				continue
			}
			if to, ok := all[path]; anchor != "" && ok && !anchors(to)[anchor] {
				t.Errorf("%s: %s has no heading #%s", page, path, anchor)
			}
		}
	}
}

// otherFlags are flags of other programs that the documentation names alone.
var otherFlags = regexp.MustCompile(
	"^`-(d|H|N|k|v|i|f|T|X|race|run|bench|count|short|tags|cpuprofile|trimpath|scenario|readme|n|only|sizes|rounds|" +
		"faults\\.[a-z]+|write-[a-z]+|1|once|o|p|c|m|t|e|s|w|a|b|g|h|help|json|local|log-driver|ldflags|buildvcs|" +
		"benchtime|timeout|ping-interval|ping-timeout)\\b")

// Variables and flags are written as the code has them.
func TestDocsNames(t *testing.T) {
	flags := map[string]bool{}
	cfg := defaultConfig()
	known := cfg.settings()
	for _, c := range commands() {
		known = append(known,
			c.start(&call{env: configtest.Vars(nil),
				std: streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}}).settings...)
	}
	for _, s := range known {
		flags[s.Flag] = true
	}
	for page, text := range pages(t) {
		if page == "CHANGELOG.md" { // it names what is gone
			continue
		}
		for _, name := range regexp.MustCompile(`\bHERALD_[A-Z0-9_]+\b`).FindAllString(text, -1) {
			if !config.Known(name) && !regexp.MustCompile(`^HERALD_(TEST|BENCH|BIN)|^HERALD_AUDIT$|_$`).
				MatchString(name) {
				t.Errorf("%s: there is no variable %s", page, name)
			}
		}
		for _, m := range regexp.MustCompile("`-([a-z][a-z0-9-]*)[^`\n]*`").FindAllStringSubmatch(text, -1) {
			if !flags[m[1]] && !otherFlags.MatchString(m[0]) {
				t.Errorf("%s: no command has a flag -%s", page, m[1])
			}
		}
	}
}

// block is a piece of code in a page.
type block struct {
	page, language, text string
	line                 int
	note                 string // the HTML comment before it
}

var blocks = regexp.MustCompile("(?ms)(?:^<!-- ([^\n]*?) -->\n)?^```([a-z]*)\n(.*?)^```")

func blocksOf(page, text string) (found []block) {
	for _, m := range blocks.FindAllStringSubmatchIndex(text, -1) {
		b := block{page: page, language: text[m[4]:m[5]], text: text[m[6]:m[7]],
			line: 1 + strings.Count(text[:m[4]], "\n")}
		if m[2] >= 0 {
			b.note = text[m[2]:m[3]]
		}
		found = append(found, b)
	}
	return found
}

// Every block of code of README and docs is run, or at least read by the program that it is for;
// or it says why not, in a comment before it: "not run: WHY", "run by TEST" or "runs until it is stopped".
func TestDocsBlocks(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		if page != "README.md" && !strings.HasPrefix(page, "docs/") || strings.HasPrefix(page, "docs/reference/") {
			continue
		}
		var shell []block
		for _, b := range blocksOf(page, text) {
			where := fmt.Sprintf("%s:%d", b.page, b.line)
			test, by := strings.CutPrefix(b.note, "run by ")
			switch {
			case strings.HasPrefix(b.note, "not run: "):
			case by:
				if !hasTest(t, test) {
					t.Errorf("%s: there is no test %s", where, test)
				}
			case b.language == "text" || b.language == "diff": // a picture; a change to a file of somebody else's
			case b.language == "sh":
				shell = append(shell, b)
			case b.language == "json":
				if !json.Valid([]byte(b.text)) {
					t.Errorf("%s: it is not JSON", where)
				}
			case b.language == "js":
				checkScript(t, where, b.text)
			case b.language == "html":
				for _, m := range regexp.MustCompile(`(?s)<script type="module">(.*?)</script>`).
					FindAllStringSubmatch(b.text, -1) {
					checkScript(t, where, m[1])
				}
			default:
				t.Errorf("%s: a block in %q is not run, and nothing says why", where, b.language)
			}
		}
		if len(shell) > 0 {
			t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) { runShell(t, shell) })
		}
	}
}

// hasTest reports whether a Go test or a file of web/test has that name.
func hasTest(t *testing.T, name string) bool {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, "web", "test", name)); err == nil {
		return true
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(b), "func "+name+"(")
	})
}

// checkScript has Node read a module.
func checkScript(t *testing.T, where, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "block.mjs")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("node", "--check", file).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", where, err, out)
	}
}

// preamble makes of the page's commands ones that fail where they should, and of those that a test must not run
// nothing.
const preamble = `set -euo pipefail
curl() { command curl -sS --fail-with-body "$@"; }
make() { :; }
`

// runShell runs the blocks of one page, one after the other, in a folder where a Herald of its own runs.
func runShell(t *testing.T, shell []block) {
	dir, port, began := t.TempDir(), proctest.FreePort(t), time.Now()
	p := start(t, "allinone", dir, nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "")
	p.WaitFor("is ready")
	key := p.Find(`hk_[a-z0-9]+`)[0]
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(proctest.Build(t, module+"services/allinone"), filepath.Join(bin, "herald")); err != nil {
		t.Fatal(err)
	}
	sent := false
	for i, b := range shell {
		text := strings.ReplaceAll(strings.ReplaceAll(b.text, "localhost:5000", "127.0.0.1:"+port), "hk_…", key)
		// What one block exports, the next has.
		script := preamble + "[ ! -f variables ] || . ./variables\n" + text
		endless := b.note == "runs until it is stopped"
		if !endless {
			script += "\nexport -p > variables\n"
		}
		cmd := exec.Command("timeout", "600", "bash", "-c", script) // it hands a signal on to what the block started
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HERALD_API_KEY="+key, "HERALD_URL=http://127.0.0.1:"+port, "PATH="+bin+":"+
			os.Getenv("PATH"))
		out, goesOn, err := runBlock(t, cmd, endless)
		switch {
		case endless && (!goesOn || out == ""):
			t.Errorf("%s:%d should print something and go on: %v\n%s", b.page, b.line, err, out)
		case !endless && err != nil:
			t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
		case !sent && strings.Contains(text, "curl"):
			sent = true
			t.Logf("from the start of Herald to the first message: %d blocks of %s, %.1f s", i+1, b.page,
				time.Since(began).Seconds())
		}
	}
	p.Stop(20 * time.Second)
}

// runBlock runs a block to its end, or, if it has none, until it has printed something
// and is still running.
func runBlock(t *testing.T, cmd *exec.Cmd, endless bool) (out string, goesOn bool, err error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only written to by the command
	printed := func() string {
		b, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // received below
	for {
		select {
		case err := <-ended:
			return printed(), false, err
		case <-time.After(20 * time.Millisecond):
		}
		if out := printed(); endless && out != "" {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-ended
			return out, true, nil
		}
	}
}

// figures are the rows of docs/explanation/benchmarks.md that README shows, by how they begin.
var figures = []string{
	"an idle client, resident memory",
	"1,000 clients, one message at a time: CPU of a million deliveries",
	"1,000 clients, bursts of 5 messages: CPU of a million deliveries",
	"10,000 clients lose their connection and come back at once: CPU per client",
	"one POST, stored and acknowledged: CPU of ingest and NATS",
	"a message of an NDJSON stream",
}

// README's figures are those that make bench wrote, of Herald and of two others; make docs copies them.
func TestFiguresInReadme(t *testing.T) {
	table := pages(t)["docs/explanation/benchmarks.md"]
	rows := strings.Split(regexp.MustCompile(`(?ms)^\| \| Herald .*?\n\n`).FindString(table), "\n")
	var shown []int // columns
	for i, column := range strings.Split(rows[0], "|") {
		for _, begin := range []string{"", "Herald", "textbook gorilla", "centrifuge"} {
			column := strings.TrimSpace(column)
			if i > 0 && (column == begin || begin != "" && begin != "Herald" && strings.HasPrefix(column, begin)) &&
				!slices.Contains(shown, i) && len(shown) < 4 {
				shown = append(shown, i)
			}
		}
	}
	if len(rows) < 3 || len(shown) != 4 {
		t.Fatalf("there is no table of bench with four columns: %v", rows[:1])
	}
	var out strings.Builder
	write := func(row string) {
		cells := strings.Split(row, "|")
		for _, i := range shown {
			cell := " –"
			if i < len(cells) {
				// without the range
				cell = strings.TrimRight(regexp.MustCompile(`(\*\*|[^|]) \([^|()]*\)`).ReplaceAllString(cells[i], "$1"),
					" ")
			}
			out.WriteString("|" + cell + " ")
		}
		out.WriteString("|\n")
	}
	write(rows[0])
	out.WriteString("| --- | --- | --- | --- |\n")
	for _, name := range figures {
		i := slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, "| "+name) })
		if i < 0 {
			t.Errorf("benchmarks.md has no row %q", name)
			continue
		}
		write(rows[i])
	}
	holdBetween(t, "README.md", "figures", out.String())
}
