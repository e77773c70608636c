package proctest

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		Clean()
		os.Exit(code)
	}))
}

const polite = `trap 'echo goodbye; exit 0' TERM; echo "hello $HERALD_SECRET $GIVEN"; while :; do sleep 0.01; done`

func TestStop(t *testing.T) {
	t.Setenv("HERALD_SECRET", "of this process")
	p := Start(t, "/bin/sh", t.TempDir(), []string{"GIVEN=given"}, "-c", polite)
	p.WaitFor("hello")
	p.Stop(time.Minute)
	if got, want := p.Output(), "hello  given\ngoodbye\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Kill() // of one that has ended does nothing
}

func TestKill(t *testing.T) {
	p := Start(t, "/bin/sh", t.TempDir(), nil, "-c", polite)
	p.WaitFor("hello")
	p.Kill()
	select {
	case <-p.Done():
	default:
		t.Error("it is not done after Kill")
	}
	if strings.Contains(p.Output(), "goodbye") {
		t.Errorf("got %q, want no goodbye: kill -9 cannot be caught", p.Output())
	}
}

// What is waited for has come whole, also where a process writes a line in parts.
func TestFind(t *testing.T) {
	p := Start(t, "/bin/sh", t.TempDir(), nil, "-c", `echo first; printf 'user a, pass'; sleep 0.2; echo 'word b'`)
	if got := p.Find(`user (\w+), password (\w+)`); got[1] != "a" || got[2] != "b" {
		t.Errorf("got %q", got)
	}
	greeting := "ready\n" + strings.Repeat("more\n", 500) + "last\n"
	p = Start(t, "/bin/sh", t.TempDir(), []string{"GREETING=" + greeting}, "-c", `printf %s "$GREETING"`)
	p.WaitFor("ready")
	if got := p.Output(); got != greeting {
		t.Errorf("after the first line there are %d bytes, want %d", len(got), len(greeting))
	}
}

// A command is built once, and called by its name.
func TestBuild(t *testing.T) {
	gofmt := Build(t, "cmd/gofmt")
	if again := Build(t, "cmd/gofmt"); again != gofmt {
		t.Errorf("got %s and then %s, want one binary", gofmt, again)
	}
	if !strings.HasSuffix(gofmt, "/gofmt") {
		t.Errorf("got %s, want it to end in the command's name", gofmt)
	}
	p := Start(t, gofmt, t.TempDir(), nil, "-h")
	p.WaitFor("usage: gofmt")
	<-p.Done()
}

func TestFreePort(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		port := FreePort(t)
		if seen[port] {
			t.Fatalf("port %s was given out twice", port)
		}
		seen[port] = true
		if mark, err := net.ListenPacket("udp4", "127.0.0.1:"+port); err == nil {
			_ = mark.Close()
			t.Fatalf("the tests of another process do not see that port %s is given", port)
		}
	}
}
