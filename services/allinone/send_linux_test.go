package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/proctest"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal: what a program sees, and where its output is read.
func terminal(t *testing.T) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return program, person
}

// On a terminal herald send of a file shows a bar, a rate and what was refused, and
// herald load shows how far it is; the results on standard output stay what they are.
func TestProgressOnTerminal(t *testing.T) {
	folder, port := t.TempDir(), proctest.FreePort(t)
	base := "http://127.0.0.1:" + port
	server := start(t, "allinone", folder, nil, "-listen", "127.0.0.1:"+port, "-ops-listen",
		"127.0.0.1:"+proctest.FreePort(t))
	server.WaitFor("Open the page")
	_, key, _ := strings.Cut(server.Output(), "API key:")
	key = strings.Fields(key)[0]
	lines := strings.Repeat("{\"n\": 1}\n", 500) + "no JSON\n"
	if err := os.WriteFile(filepath.Join(folder, "lines.ndjson"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		words  []string
		fails  bool
		shows  []string
		prints string
	}{
		"send": {words: []string{"send", "-json", "-file", "lines.ndjson"}, fails: true,
			prints: `"line":500,"status":"stored"`,
			shows: []string{"500 sent, 1 refused, ", "/s", "100%", "line 501: it is not JSON",
				"1 of 501 lines were refused"}},
		"load": {words: []string{"load", "-connections", "5", "-rate", "50", "-duration", "1s"},
			prints: "250 deliveries",
			shows:  []string{"5 connections", "100%"}},
	} {
		t.Run(name, func(t *testing.T) {
			program, person := terminal(t)
			cmd := exec.Command(proctest.Build(t, module+"services/allinone"), c.words...)
			var out strings.Builder
			cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &out, program
			cmd.Env = append(os.Environ(), "HERALD_API_KEY="+key, "HERALD_URL="+base)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = program.Close() // the command has its own
			var shown strings.Builder
			for b := make([]byte, 4096); ; { // until the command closes its end: EIO
				n, err := person.Read(b)
				shown.Write(b[:n])
				if err != nil {
					break
				}
			}
			if err := cmd.Wait(); (err != nil) != c.fails {
				t.Errorf("it ended with %v", err)
			}
			for _, want := range c.shows {
				if !strings.Contains(shown.String(), want) {
					t.Errorf("the terminal lacks %q:\n%q", want, shown.String())
				}
			}
			if !strings.Contains(out.String(), c.prints) {
				t.Errorf("standard output lacks %q:\n%s", c.prints, out.String())
			}
		})
	}
}
