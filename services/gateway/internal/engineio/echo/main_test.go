package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the command and returns the URL that it prints.
func start(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stdout, printed := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, append([]string{"-port", "0"}, args...), printed, os.Stderr) }() // ends with stop
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string // of the error; empty: none
	}{
		{"help", []string{"-h"}, ""},
		{"unknown flag", []string{"-listen", ":1"}, "not defined: -listen"},
		{"no time", []string{"-ping-timeout", "0s"}, "at least"},
		{"no port", []string{"-port", "70000"}, "is no port"},
	} {
		err := run(context.Background(), c.args, io.Discard, io.Discard)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// request returns the status and the body of an answer.
func request(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("%s: a page may not read the answer: %q", method, got)
	}
	return resp.StatusCode, string(b)
}

// patient are flags for tests whose clients must not be closed on a busy machine.
var patient = []string{"-ping-interval", "20s", "-ping-timeout", "20s", "-connect-timeout", "20s"}

// open begins a session that polls, and returns its URL and the rest of the greeting.
func open(t *testing.T, root, query string) (url, rest string) {
	t.Helper()
	url = root + "/engine.io/?transport=polling&" + query
	status, greeting := request(t, http.MethodGet, url, "")
	_, sid, _ := strings.Cut(greeting, `"sid":"`)
	sid, rest, _ = strings.Cut(sid, `"`)
	if status != http.StatusOK || sid == "" {
		t.Fatalf("status %d, %s", status, greeting)
	}
	return url + "&sid=" + sid, rest
}

// Messages come back, in both revisions.
func TestPolling(t *testing.T) {
	root := start(t, patient...)
	for query, message := range map[string]string{"EIO=4": "4hello\x1ebAQIDBA==",
		"EIO=3&b64=1": "6:4hello10:b4AQIDBA=="} {
		url, _ := open(t, root, query)
		if status, body := request(t, http.MethodPost, url, message); status != http.StatusOK || body != "ok" {
			t.Errorf("%s: POST: %d, %s", query, status, body)
		}
		if status, body := request(t, http.MethodGet, url, ""); status != http.StatusOK || body != message {
			t.Errorf("%s: GET: %d, %s", query, status, body)
		}
	}
}

// The times are those that the suites expect, and they are kept.
func TestPingTimeout(t *testing.T) {
	root := start(t)
	for _, query := range []string{"EIO=4", "EIO=3&b64=1"} {
		begin := time.Now()
		url, rest := open(t, root, query)
		want := `,"upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}`
		if rest != want {
			t.Errorf("%s: %s", query, rest)
		}
		for status := http.StatusOK; status != http.StatusBadRequest; { // after a ping, or a goodbye
			status, _ = request(t, http.MethodGet, url, "")
		}
		if took := time.Since(begin); took < 390*time.Millisecond {
			t.Errorf("%s: the session ended after %s", query, took)
		}
	}
}

// What the suite of Socket.IO asks for, once more in Go: it runs with the other tests.
func TestSocketIO(t *testing.T) {
	root := strings.Replace(start(t, patient...), "http", "ws", 1)
	dial := func(t *testing.T) *websocket.Conn {
		c, _, err := websocket.DefaultDialer.Dial(root+"/socket.io/?EIO=4&transport=websocket", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	const greeted, entered = `0{"sid":`, `40{"sid":`
	for _, c := range []struct {
		name string
		send []string // with \x00 before it: a binary message
		want []string // beginnings
	}{
		{"auth", []string{`40{"token":"123"}`}, []string{entered, `42["auth",{"token":"123"}]`}},
		{"another namespace", []string{"40/custom"}, []string{`40/custom,{"sid":`, `42/custom,["auth",{}]`}},
		{"one that there is not", []string{"40/random"}, []string{`44/random,{"message":"Invalid namespace"}`}},
		{"message", []string{"40", `42["message",1,"2",{"3":[true]}]`},
			[]string{entered, `42["auth",{}]`, `42["message-back",1,"2",{"3":[true]}]`}},
		{"acknowledgement", []string{"40", `42456["message-with-ack",1,"2"]`},
			[]string{entered, `42["auth",{}]`, `43456[1,"2"]`}},
		{"binary", []string{"40", `451-["message",{"_placeholder":true,"num":0}]`, "\x00abc"},
			[]string{entered, `42["auth",{}]`, `451-["message-back",{"_placeholder":true,"num":0}]`, "abc"}},
		{"binary acknowledgement", []string{"40", `451-7["message-with-ack",{"_placeholder":true,"num":0}]`, "\x00abc"},
			[]string{entered, `42["auth",{}]`, `461-7[{"_placeholder":true,"num":0}]`, "abc"}},
		{"leaving one of two", []string{"40", "40/custom", "41/custom", `42["message",1]`},
			[]string{entered, `42["auth",{}]`, `40/custom,`, `42/custom,["auth",{}]`, `42["message-back",1]`}},
		{"no packet", []string{"4abc"}, []string{"websocket: close 1007"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ws := dial(t)
			for _, packet := range c.send {
				kind := websocket.TextMessage
				if b, binary := strings.CutPrefix(packet, "\x00"); binary {
					kind, packet = websocket.BinaryMessage, b
				}
				if err := ws.WriteMessage(kind, []byte(packet)); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range append([]string{greeted}, c.want...) {
				_, b, err := ws.ReadMessage()
				got := string(b)
				if err != nil {
					got = err.Error()
				}
				if !strings.HasPrefix(got, want) {
					t.Fatalf("got %s, want %s", got, want)
				}
			}
		})
	}
}

// Who enters no namespace is closed.
func TestConnectTimeout(t *testing.T) {
	root := start(t, "-connect-timeout", "1ms")
	c, _, err := websocket.DefaultDialer.Dial(strings.Replace(root, "http", "ws", 1)+
		"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for err == nil {
		_, _, err = c.ReadMessage()
	}
	if !websocket.IsCloseError(err, 4001) {
		t.Errorf("got %v, want code 4001", err)
	}
}
