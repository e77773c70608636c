package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config/configtest"
)

// silent is a server that takes connections and says nothing; each of them is told to taken.
func silent(t *testing.T) (address string, taken <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told, done := make(chan struct{}, 1000), make(chan struct{})
	go func() { // ends when the listener is closed, below
		defer close(done)
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
			told <- struct{}{}
		}
		for _, c := range open {
			_ = c.Close() // nothing was written
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), told
}

// Ctrl-C ends a command that waits for an answer at once, and the command says that Ctrl-C did: not that the
// server is at fault, nor that something is wrong which was only broken off.
func TestInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		says  string // what it ends with
	}{
		"send":   {[]string{"send", "hello"}, "stop; the message may have been sent or not"},
		"load":   {[]string{"load", "-connections", "2"}, "stop"},
		"log":    {[]string{"log", "-url", "URL"}, "stop"},
		"export": {[]string{"log", "-url", "URL", "-format", "csv"}, "stop"},
		"top":    {[]string{"top", "-once", "-nats", "NATS"}, "stop"},
		"list":   {[]string{"keys", "list", "-nats", "NATS"}, "stop"},
		"add":    {[]string{"users", "add", "anna", "-nats", "NATS"}, "stop"},
		"parts":  {[]string{"doctor", "-services", "URL"}, "stop; not everything was looked at"},
		"port": {[]string{"doctor", "-listen", "ADDRESS", "-data", t.TempDir()},
			"stop; not everything was looked at"},
		"broker": {[]string{"doctor", "-nats", "NATS", "-data", t.TempDir()},
			"stop; not everything was looked at"},
		"health": {[]string{"serve", "-health", "-listen", "ADDRESS"},
			`ask for readiness at ADDRESS: Get "http://localhost/readyz": stop`},
	} {
		t.Run(name, func(t *testing.T) {
			address, taken := silent(t)
			ctx, stop := context.WithCancelCause(t.Context())
			words := strings.NewReplacer("URL", "http://"+address, "NATS", "nats://"+address, "ADDRESS", address)
			args := make([]string, len(c.words))
			for i, word := range c.words {
				args[i] = words.Replace(word)
			}
			var out, said bytes.Buffer
			env := configtest.Vars(map[string]string{"HERALD_API_KEY": "hk_5kq2u7w3x9z4m6n8p1r0t2v4",
				"HERALD_URL": "http://" + address})
			ended := make(chan error, 1)
			go func() {
				ended <- run(ctx, args, env, streams{in: strings.NewReader(""), out: &out, err: &said})
			}() // ends with stop; waited for below
			<-taken
			stop(stopped{})
			err := <-ended
			if err == nil || err.Error() != words.Replace(c.says) {
				t.Errorf("it ends with %v, want %q", err, c.says)
			}
			if all := out.String() + said.String(); strings.Contains(all, "WRONG") || strings.Contains(all, "stop") {
				t.Errorf("it says\n%s", all)
			}
		})
	}
}

// stopped is what ends a context, as a signal does.
type stopped struct{}

func (stopped) Error() string { return "stop" }

func (stopped) Is(err error) bool { return err == context.Canceled }
