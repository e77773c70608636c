package natsx_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

var quiet = slog.New(slog.DiscardHandler)

func TestConnectErrors(t *testing.T) {
	s := natstest.Start(t)
	addr := s.URL[strings.LastIndexByte(s.URL, '@')+1:]
	nobody := "127.0.0.1:" + natstest.FreePort(t)
	for _, c := range []struct{ name, url, want string }{
		{"nobody there", "nats://hunter2:hunter2@" + nobody, "connect to NATS at nats://…@" + nobody + ": "},
		{"wrong password", "nats://test:hunter2@" + addr, "connect to NATS at nats://…@" + addr +
			": nats: Authorization Violation"},
		{"no password", "nats://" + addr, "Authorization Violation"},
		{"bad escape", "nats://hunter2:hunter2%zz@" + addr, "the URL is malformed"},
		{"slash in the password", "nats://u:hunter2/hunter2@" + addr, "the URL is malformed"},
		{"hash in the password", "nats://u:hunter2#hunter2@" + addr, "the URL is malformed"},
		{"comma in the password", "nats://u:hunter2,hunter2@" + addr, "connect to NATS at nats://…,nats://…@" + addr},
		{"blank in the host", "nats://u:hunter2@a b", "the URL is malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := natsx.Connect(natsx.Config{URL: c.url, Name: "t"}, quiet)
			if err == nil {
				nc.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
}

func TestConnectWithoutURL(t *testing.T) {
	d, err := natsd.Start(natsd.Config{Dir: t.TempDir(), SyncInterval: time.Minute}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Shutdown()
	nc, err := natsx.Connect(natsx.Config{Name: "herald-test"}, quiet, d.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.Opts.Name != "herald-test" || nc.Opts.MaxReconnect != -1 || nc.Opts.ReconnectBufSize != -1 {
		t.Errorf("got %q, %d, %d", nc.Opts.Name, nc.Opts.MaxReconnect, nc.Opts.ReconnectBufSize)
	}
}

func TestSettingIsSecret(t *testing.T) {
	var c natsx.Config
	if _, err := config.Parse("x", []string{"-nats=nats://a"}, configtest.Vars(nil), nil, nil,
		c.Settings()); err != nil ||
		c.URL != "nats://a" {
		t.Errorf("got %q, %v", c.URL, err)
	}
	if s := c.Settings()[0]; !s.Secret || s.Default() != "" {
		t.Error("the URL is printed")
	}
}

// pretender answers like a nats-server of some version.
func pretender(t *testing.T, version string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the listener and the one connection are closed
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = fmt.Fprintf(c, `INFO {"server_id":"x","version":%q,"proto":1,"headers":true,"max_payload":1048576}`+
			"\r\n", version)
		for in := bufio.NewScanner(c); in.Scan(); {
			if in.Text() == "PING" {
				_, _ = io.WriteString(c, "PONG\r\n")
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "nats://" + l.Addr().String()
}

func TestVersionFloor(t *testing.T) {
	for version, old := range map[string]bool{
		"2.11.0": false, "2.11.1": false, "2.12.0-RC.1": false, "2.11.0-preview.1": false, "2.100.0": false,
		"3.0.0": false, "10.0.0": false,
		"2.10.29": true, "2.10.99-RC.1": true, "2.9.10": true, "2.9": true, "1.99.99": true, "0.0.0": true,
		"2.11": false, "": false, "fork": false, "v2.10.0": false, "2": false,
	} {
		t.Run(version, func(t *testing.T) {
			url := pretender(t, version)
			nc, err := natsx.Connect(natsx.Config{URL: url, Name: "t"}, quiet)
			if err == nil {
				nc.Close()
			}
			if !old {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := "NATS at " + url + " is version " + version + "; Herald needs 2.11.0 or newer"; err == nil ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if !errors.Is(err, natsx.ErrServerTooOld) {
				t.Errorf("%v is not ErrServerTooOld", err)
			}
		})
	}
}

func TestReconnectDelay(t *testing.T) {
	for attempts, most := range map[int]time.Duration{0: 50, 1: 50, 2: 100, 3: 200, 5: 800, 6: 1600, 7: 2000, 8: 2000,
		1 << 40: 2000} {
		most *= time.Millisecond
		seen := map[time.Duration]bool{}
		for range 200 {
			d := natsx.ReconnectDelay(attempts)
			if d < most/2 || d >= most {
				t.Fatalf("attempt %d: got %s, want half of %s up to it", attempts, d, most)
			}
			seen[d] = true
		}
		if len(seen) < 50 {
			t.Errorf("attempt %d: hardly any jitter: %d values of 200", attempts, len(seen))
		}
	}
}

// The connection comes back although NATS refuses its password for a while,
// and meanwhile a publish fails at once instead of waiting in a buffer.
func TestReconnectsThroughRefusedPasswords(t *testing.T) {
	cfg := natsd.Config{Dir: t.TempDir(), Port: -1, User: "u", Password: "right", SyncInterval: time.Minute}
	d, err := natsd.Start(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { d.Shutdown() }()
	cfg.Port = d.Port()
	var out logtest.Buffer
	nc, err := natsx.Connect(natsx.Config{URL: fmt.Sprintf("nats://u:right@127.0.0.1:%d", cfg.Port), Name: "t"},
		slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	d.Shutdown()
	natstest.Eventually(t, 30*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	if err := nc.Publish("a", nil); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("publish while NATS is away: got %v", err)
	}
	cfg.Password = "other"
	if d, err = natsd.Start(cfg, quiet); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the password was refused three times", func() bool {
		return strings.Count(strings.ToLower(out.String()), "authorization violation") >= 3
	})
	if nc.IsClosed() {
		t.Fatal("the connection gave up")
	}
	d.Shutdown()
	cfg.Password = "right"
	if d, err = natsd.Start(cfg, quiet); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the connection is back", nc.IsConnected)
	natstest.Eventually(t, 30*time.Second, "the log says so",
		func() bool { return strings.Contains(out.String(), "NATS connection is back") })
	if strings.Contains(out.String(), "right") {
		t.Errorf("the log shows the password: %s", out.String())
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"nats://127.0.0.1:4222":                "nats://127.0.0.1:4222",
		"127.0.0.1":                            "nats://127.0.0.1",
		"nats://user:pass@host:4222":           "nats://…@host:4222",
		"token@host":                           "nats://…@host",
		"tls://token@host":                     "tls://…@host",
		"nats://user:p@ss@host":                "nats://…@host",
		"nats://user:p/a#s?s@host":             "nats://…@host",
		"nats://a,nats://u:p@b,tls://c":        "nats://a,nats://…@b,tls://c",
		"nats://u:p,w@host":                    "nats://…,nats://…@host",
		"nats://u:p,w@host,nats://other":       "nats://…,nats://…@host,nats://other",
		"nats://u:p@a, nats://u:p@b":           "nats://…@a, nats://…@b",
		"ws://u:p@host/path":                   "ws://…@host/path",
		"nats://u:p@[2001:db8::1]:4222":        "nats://…@[2001:db8::1]:4222",
		"nats://user:secret://more@host:4222/": "nats://…@host:4222/",
	} {
		if got := natsx.Redact(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// A service that starts while NATS is away has a connection that finds it.
func TestAttach(t *testing.T) {
	s := natstest.Start(t)
	s.Stop()
	var out logtest.Buffer
	nc, err := natsx.Attach(natsx.Config{URL: s.URL, Name: "t"}, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.IsConnected() || nc.IsClosed() {
		t.Errorf("got connected %v, closed %v, want neither", nc.IsConnected(), nc.IsClosed())
	}
	if err := nc.Publish("a", nil); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("publish while NATS is away: got %v, want %v", err, nats.ErrReconnectBufExceeded)
	}
	if err := natsx.CheckServer(nc); err != nil {
		t.Errorf("no server: got %v", err)
	}
	natstest.Eventually(t, 30*time.Second, "the log says so",
		func() bool { return strings.Contains(out.String(), "trying again") })
	s.Restart()
	natstest.Eventually(t, 30*time.Second, "connected", nc.IsConnected)
	if err := natsx.CheckServer(nc); err != nil {
		t.Errorf("our own server: got %v", err)
	}
	if n := strings.Count(out.String(), "trying again"); n != 1 || strings.Contains(out.String(), "test:test") {
		t.Errorf("said %d times, want 1, and no password: %s", n, out.String())
	}
}

// What Attach finds at once it judges as Connect does.
func TestAttachRefuses(t *testing.T) {
	if _, err := natsx.Attach(natsx.Config{URL: pretender(t, "2.10.0"), Name: "t"}, quiet); !errors.Is(err,
		natsx.ErrServerTooOld) {
		t.Errorf("old server: got %v, want %v", err, natsx.ErrServerTooOld)
	}
	if _, err := natsx.Attach(natsx.Config{URL: "nats://u:hunter2%zz@127.0.0.1:1", Name: "t"}, quiet); err == nil ||
		strings.Contains(err.Error(), "hunter2") {
		t.Errorf("malformed URL: got %v", err)
	}
}

// A server that waits to be spoken to, as HTTP servers do, is not a NATS server: the error says so.
func TestConnectToASilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	nc, err := natsx.Connect(natsx.Config{URL: "nats://" + l.Addr().String()}, quiet, nats.Timeout(50*time.Millisecond))
	if err == nil || !strings.Contains(err.Error(), "is it an HTTP server") {
		t.Errorf("got %v, want what a silent server may be", err)
		nc.Close()
	}
	var log logtest.Buffer
	nc, err = natsx.Attach(natsx.Config{URL: "nats://" + l.Addr().String()}, slog.New(slog.NewTextHandler(&log, nil)),
		nats.Timeout(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the log says so",
		func() bool { return strings.Contains(log.String(), "is it an HTTP server") })
	nc.Close()
}
