package proctest

import (
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
	p.Stop(10 * time.Second)
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
	}
}
