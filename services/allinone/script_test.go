package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs testdata/script: each file is a session at the terminal, to
// be read as documentation. Beside testscript's own commands there are:
//
//	port NAME          sets $NAME to a free port
//	ready URL          waits until the Herald there is ready
//	apikey NAME FILE   sets $NAME to the API key that FILE's text shows
//	stranger NAME KIND sets $NAME to the URL of a server that is not Herald
//	proxy NAME KIND URL  sets $NAME to the URL of a proxy before the Herald there
//	until FILE REGEXP  waits until FILE, written by a background command, matches
//	retry REGEXP PROGRAM ARG…  runs a program again and again, until it succeeds and what it prints matches
//	! retry REGEXP PROGRAM ARG…  the same, until it fails and its error or what it prints matches
//
// After retry, stdout and stderr are about the last run. It is for what comes by itself, and for what a busy
// machine may keep from being ready at the first look.
func TestScript(t *testing.T) {
	races := t.TempDir() // where the race detector writes, if a command ends with 66
	t.Cleanup(func() {
		reports, _ := filepath.Glob(filepath.Join(races, "*")) // the pattern is well formed
		for _, name := range reports {
			b, err := os.ReadFile(name)
			t.Errorf("%s\n%s, %v", name, b, err)
		}
	})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			for _, v := range os.Environ() {
				if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "HERALD_") {
					env.Setenv(name, "")
				}
			}
			env.Setenv("GORACE", "log_path="+filepath.Join(races, "race"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"port": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], proctest.FreePort(t))
			},
			"ready": func(ts *testscript.TestScript, _ bool, args []string) {
				await(ts, args[0]+" is ready", func() bool {
					resp, err := http.Get(args[0] + "/readyz")
					if err != nil {
						return false
					}
					_ = resp.Body.Close()
					return resp.StatusCode == http.StatusOK
				})
			},
			"page": func(ts *testscript.TestScript, _ bool, args []string) {
				resp, err := http.Get(args[0])
				ts.Check(err)
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
			},
			"apikey": func(ts *testscript.TestScript, _ bool, args []string) {
				shown := regexp.MustCompile(`API key: +(\S+)`)
				var found []string
				await(ts, args[1]+" shows an API key", func() bool {
					b, err := os.ReadFile(ts.MkAbs(args[1]))
					found = shown.FindStringSubmatch(string(b))
					return err == nil && found != nil
				})
				ts.Setenv(args[0], found[1])
			},
			"proxy": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], proxyBefore(ts, args[1], args[2]))
			},
			"stranger": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], stranger(ts, args[1]))
			},
			"retry": func(ts *testscript.TestScript, neg bool, args []string) {
				want, pause := regexp.MustCompile(args[0]), time.Duration(0)
				await(ts, strings.Join(args[1:], " ")+": "+args[0], func() bool {
					time.Sleep(pause)
					pause = 200 * time.Millisecond
					err := ts.Exec(args[1], args[2:]...)
					said := ts.ReadFile("stdout")
					if neg {
						said += ts.ReadFile("stderr")
					}
					return (err != nil) == neg && want.MatchString(said)
				})
			},
			"until": func(ts *testscript.TestScript, _ bool, args []string) {
				want := regexp.MustCompile(args[1])
				await(ts, args[0]+" has "+args[1], func() bool {
					b, err := os.ReadFile(ts.MkAbs(args[0]))
					return err == nil && want.Match(b)
				})
			},
		},
	})
}

func await(ts *testscript.TestScript, what string, cond func() bool) {
	deadline := time.Now().Add(3 * time.Minute) // a machine with other work starts Herald in half a minute
	for !cond() {
		if time.Now().After(deadline) {
			ts.Fatalf("after three minutes still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stranger starts a server that is not Herald and returns its URL. It ends
// with the script.
func stranger(ts *testscript.TestScript, kind string) string {
	if kind == "banner" { // speaks first, as SSH does
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		done := make(chan struct{})
		go func() { // ends when the listener is closed; waited for below
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.7\r\n"))
				_, _ = c.Read(make([]byte, 1)) // a reset could overtake the banner
				_ = c.Close()
			}
		}()
		ts.Defer(func() { _ = l.Close(); <-done })
		return "http://" + l.Addr().String()
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch kind {
		case "redirect":
			http.Redirect(w, r, "https://push.example.com/ws", http.StatusMovedPermanently)
		case "unavailable":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "websocket":
			c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
			if err != nil {
				return
			}
			_ = c.WriteMessage(websocket.TextMessage, []byte(`{"hello":"stranger"}`))
			_ = c.Close()
		default:
			http.NotFound(w, r)
		}
	}))
	ts.Defer(s.Close)
	return s.URL
}
