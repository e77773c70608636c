package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config/configtest"
)

// Ctrl-C ends a command that waits for its next line, after the results of those before.
func TestSendInterrupted(t *testing.T) {
	for name, c := range map[string]struct{ lines, says string }{
		"before any line": {says: "nothing was sent: stop"},
		"after two":       {lines: "one\n\nthree\n", says: "nothing was sent after line 3: stop"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			input, typed := io.Pipe()
			defer func() { _ = typed.Close() }()
			read := make(chan struct{}) // closed when the server has every line
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				_ = http.NewResponseController(w).Flush()
				lines, n := bufio.NewScanner(r.Body), 0
				for lines.Scan() {
					if n++; n == 2 {
						close(read)
					}
				}
				for i := range n { // no result comes before the stream ends
					fmt.Fprintf(w, "{\"line\":%d,\"status\":\"stored\",\"id\":\"e-%d\"}\n", i+1, i+1)
				}
				fmt.Fprintln(w, `{"done":true}`)
			}))
			defer server.Close()
			var out, said bytes.Buffer
			env := configtest.Vars(map[string]string{"HERALD_API_KEY": "hk_5kq2u7w3x9z4m6n8p1r0t2v4",
				"HERALD_URL": server.URL})
			ended := make(chan error, 1)
			go func() {
				ended <- run(ctx, []string{"send"}, env, streams{in: input, out: &out, err: &said})
			}()
			if c.lines != "" {
				_, _ = io.WriteString(typed, c.lines) // a pipe that is read
				<-read
			}
			stop(errors.New("stop"))
			if err := <-ended; err == nil || err.Error() != c.says {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if got, want := strings.Count(out.String(), "stored"), strings.Count(c.lines, "e\n"); got != want {
				t.Errorf("%d lines are told as stored, want %d:\n%s", got, want, out.String())
			}
		})
	}
}

// printing is standard output that tells of each line.
type printing struct {
	bytes.Buffer
	lines chan struct{} // never closed
}

func (p *printing) Write(b []byte) (int, error) {
	defer func() { p.lines <- struct{}{} }()
	return p.Buffer.Write(b)
}

// A stream that is cut off says from which line on to send again; lines that were
// answered are printed, those behind are not told as sent.
func TestSendCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		results int // before the connection breaks
		says    string
	}{
		"before any result": {says: "lines from 1 on may be stored or not: send them again"},
		"after two":         {results: 2, says: "lines from 4 on may be stored or not"}, // line 3 is empty
	} {
		t.Run(name, func(t *testing.T) {
			out := &printing{lines: make(chan struct{}, 10)}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				lines := bufio.NewScanner(r.Body)
				w.WriteHeader(http.StatusOK)
				for i := range c.results {
					lines.Scan()
					fmt.Fprintf(w, "{\"line\":%d,\"status\":\"stored\",\"id\":\"e-%d\"}\n", i+1, i+1)
				}
				_ = http.NewResponseController(w).Flush()
				for range c.results { // an end that is noticed at a write loses what was not read
					<-out.lines
				}
				panic(http.ErrAbortHandler)
			}))
			defer server.Close()
			file := filepath.Join(t.TempDir(), "lines.txt")
			if err := os.WriteFile(file, []byte("one\ntwo\n\nfour\n"+strings.Repeat("more\n", 1000)),
				0o600); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			env := configtest.Vars(map[string]string{"HERALD_API_KEY": "hk_5kq2u7w3x9z4m6n8p1r0t2v4",
				"HERALD_URL": server.URL})
			err := run(t.Context(), []string{"send", "-file", file}, env,
				streams{in: strings.NewReader(""), out: out, err: &said})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if got := strings.Count(out.String(), "stored"); got != c.results {
				t.Errorf("%d lines are told as stored, want %d:\n%s", got, c.results, out.String())
			}
		})
	}
}
