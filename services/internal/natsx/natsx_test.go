package natsx_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var quiet = slog.New(slog.DiscardHandler)

// syncBuffer is a buffer that callbacks may log into.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestConnectErrors(t *testing.T) {
	s := natstest.Start(t)
	addr := s.URL[strings.LastIndexByte(s.URL, '@')+1:]
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, url, want string }{
		{"nobody there", "nats://hunter2:hunter2@" + nobody, "connect to NATS at nats://…@" + nobody + ": "},
		{"wrong password", "nats://test:hunter2@" + addr, "connect to NATS at nats://…@" + addr + ": nats: Authorization Violation"},
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
	if _, err := config.Parse("x", []string{"-nats=nats://a"}, func(string) string { return "" }, nil, nil, c.Settings()); err != nil || c.URL != "nats://a" {
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
		_, _ = fmt.Fprintf(c, "INFO {\"server_id\":\"x\",\"version\":%q,\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n", version)
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
		"2.11.0": false, "2.11.1": false, "2.12.0-RC.1": false, "2.11.0-preview.1": false, "2.100.0": false, "3.0.0": false, "10.0.0": false,
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
			if want := "NATS at " + url + " is version " + version + "; Herald needs 2.11.0 or newer"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if !errors.Is(err, natsx.ErrServerTooOld) {
				t.Errorf("%v is not ErrServerTooOld", err)
			}
		})
	}
}

func TestReconnectDelay(t *testing.T) {
	for attempts, most := range map[int]time.Duration{0: 50, 1: 50, 2: 100, 3: 200, 5: 800, 6: 1600, 7: 2000, 8: 2000, 1 << 40: 2000} {
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
	var out syncBuffer
	nc, err := natsx.Connect(natsx.Config{URL: fmt.Sprintf("nats://u:right@127.0.0.1:%d", cfg.Port), Name: "t"}, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	d.Shutdown()
	natstest.Eventually(t, 5*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	if err := nc.Publish("a", nil); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("publish while NATS is away: got %v", err)
	}
	cfg.Password = "other"
	if d, err = natsd.Start(cfg, quiet); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 20*time.Second, "the password was refused three times", func() bool {
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
	natstest.Eventually(t, 20*time.Second, "the connection is back", nc.IsConnected)
	natstest.Eventually(t, 5*time.Second, "the log says so", func() bool { return strings.Contains(out.String(), "NATS connection is back") })
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

func TestEnsureStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ensure := func(cfg natsx.StreamConfig) (string, *jetstream.StreamInfo) {
		t.Helper()
		epoch, err := natsx.EnsureStream(t.Context(), js, cfg)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), proto.Stream)
		if err != nil {
			t.Fatal(err)
		}
		return epoch, stream.CachedInfo()
	}
	epoch, info := ensure(natsx.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30})
	if epoch != proto.EpochOf(info.Created) {
		t.Errorf("epoch %s, created %s", epoch, info.Created)
	}
	c := info.Config
	if c.MaxAge != 24*time.Hour || c.MaxBytes != 1<<30 || c.Replicas != 1 || c.Duplicates != natsx.DuplicateWindow || !c.AllowDirect || !c.AllowMsgTTL ||
		c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy || c.Discard != jetstream.DiscardOld || c.RePublish == nil || c.RePublish.Destination != "herald.live.>" {
		t.Errorf("got %+v", c)
	}
	if _, err := js.Publish(t.Context(), "herald.msg.a", []byte(`{"channel":"a"}`)); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		cfg    natsx.StreamConfig
		window time.Duration
	}{
		{natsx.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30}, 2 * time.Minute}, // nothing changed
		{natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 1 << 20}, 2 * time.Minute},
		{natsx.StreamConfig{MaxAge: time.Minute, MaxBytes: 1 << 20}, time.Minute},
		{natsx.StreamConfig{}, 2 * time.Minute}, // no limits
		{natsx.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30, Replicas: 1}, 2 * time.Minute},
	} {
		again, info := ensure(change.cfg)
		if again != epoch || info.State.Msgs != 1 {
			t.Errorf("%+v: epoch %s became %s, %d messages", change.cfg, epoch, again, info.State.Msgs)
		}
		wantBytes := change.cfg.MaxBytes
		if wantBytes == 0 {
			wantBytes = -1
		}
		if info.Config.MaxAge != change.cfg.MaxAge || info.Config.MaxBytes != wantBytes || info.Config.Duplicates != change.window {
			t.Errorf("%+v: got age %s, bytes %d, window %s", change.cfg, info.Config.MaxAge, info.Config.MaxBytes, info.Config.Duplicates)
		}
	}
	if _, err := natsx.EnsureStream(t.Context(), js, natsx.StreamConfig{MaxAge: time.Hour, Replicas: 3}); err == nil || !strings.HasPrefix(err.Error(), "declare stream HERALD: ") {
		t.Errorf("three replicas on one server: got %v", err)
	}
}

// The epoch is the stream's creation time: it must be the same number before
// and after a restart, and another one when the stream is made anew.
func TestEpochSurvivesRestart(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, epoch := s.Stream(nc)
	if again, err := natsx.AwaitStream(t.Context(), js, natstest.Log(t)); err != nil || proto.EpochOf(again.CachedInfo().Created) != epoch {
		t.Errorf("another question, another epoch: %v, %v", again, err)
	}
	for range 3 {
		s.Restart()
		natstest.Eventually(t, 10*time.Second, "connected again", nc.IsConnected)
		stream, err := natsx.AwaitStream(t.Context(), js, natstest.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := proto.EpochOf(stream.CachedInfo().Created); got != epoch {
			t.Errorf("after a restart: got %s, want %s", got, epoch)
		}
		if _, got := s.Stream(nc); got != epoch { // declared again, as a restarted ingest does
			t.Errorf("declared after a restart: got %s, want %s", got, epoch)
		}
	}
	if err := js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	if _, got := s.Stream(nc); got == epoch {
		t.Error("a stream that was made anew has the old epoch")
	}
}

func TestAwaitStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := natsx.AwaitStream(ctx, js, quiet); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "wait for stream HERALD: ") {
		t.Errorf("got %v", err)
	}
	found := make(chan error, 1)
	go func() {
		_, err := natsx.AwaitStream(t.Context(), js, quiet)
		found <- err
	}()
	s.Stream(nc)
	if err := <-found; err != nil {
		t.Error(err)
	}
}

func TestDial(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out syncBuffer
	if nc, err := natsx.Dial(ctx, natsx.Config{URL: "nats://u:hunter2@127.0.0.1:1", Name: "t"}, slog.New(slog.NewTextHandler(&out, nil))); err == nil {
		nc.Close()
		t.Error("connected to port 1")
	}
	if strings.Count(out.String(), "trying again") != 1 || strings.Contains(out.String(), "hunter2") {
		t.Errorf("log: %s", out.String())
	}
	begin := time.Now()
	if _, err := natsx.Dial(t.Context(), natsx.Config{URL: pretender(t, "2.10.0"), Name: "t"}, quiet); !errors.Is(err, natsx.ErrServerTooOld) || time.Since(begin) > 5*time.Second {
		t.Errorf("old server: got %v after %s", err, time.Since(begin))
	}
}

// live subscribes to everything that gateways hear.
func live(t *testing.T, nc *nats.Conn) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync("herald.live.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return sub
}

func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	msg, err := sub.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func message(channel, data string) *proto.Message {
	return &proto.Message{Channel: channel, Event: "created", Data: []byte(data), Sender: "shop", Time: "2026-11-22T16:58:36.123Z"}
}

func TestRoundTrip(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	sub := live(t, nc)
	accepted := time.UnixMicro(1795000000123456)
	headers := natsx.Headers{MsgID: "shop:order-17", TTL: 3600, Source: "203.0.113.7", Accepted: accepted, Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	m := message("orders.eu", `{"n":1}`)
	for i, duplicate := range []bool{false, true} { // the same idempotency key twice stores once
		ack, err := js.PublishMsg(t.Context(), natsx.NewMsg(m, headers, false))
		if err != nil || ack.Sequence != 1 || ack.Duplicate != duplicate {
			t.Fatalf("publish %d: got %+v, %v", i, ack, err)
		}
	}
	headers.MsgID = ""
	if _, err := js.PublishMsg(t.Context(), natsx.NewMsg(message("orders.us", `2`), headers, false)); err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), natsx.NewMsg(m, headers, false)); err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishMsg(natsx.NewMsg(m, headers, true)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		channel   string
		seq, last uint64
	}{{"orders.eu", 1, 0}, {"orders.us", 2, 0}, {"orders.eu", 3, 1}, {"orders.eu", 0, 0}} {
		msg := next(t, sub)
		if got := msg.Header["Nats-Subject"]; want.seq != 0 && (len(got) != 1 || got[0] != "herald.msg."+want.channel) {
			t.Errorf("%d: Nats-Subject is %q", i, got)
		}
		for _, h := range []string{"Nats-Sequence", "Nats-Last-Sequence", "Nats-Subject"} {
			if got := len(msg.Header[h]); got != map[bool]int{true: 1, false: 0}[want.seq != 0] {
				t.Errorf("%d: %d headers %s", i, got, h)
			}
		}
		r, err := natsx.Read(msg)
		if err != nil {
			t.Fatal(err)
		}
		if r.Channel != want.channel || r.Seq != want.seq || r.Last != want.last || !r.Accepted.Equal(accepted) || r.Source != headers.Source || r.Trace != headers.Traceparent {
			t.Errorf("%d: got %+v, want %+v", i, r, want)
		}
		back, err := proto.ParseMessage(proto.AppendWithID(nil, proto.Cursor{Epoch: "e", Seq: r.Seq}, r.Body))
		if err != nil || back.ID != fmt.Sprintf("e-%d", r.Seq) || back.Channel != want.channel || back.Sender != "shop" || back.Event != "created" {
			t.Errorf("%d: got %+v, %v", i, back, err)
		}
	}
	if msg, err := sub.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("one too many: %+v", msg)
	}
}

func TestNewMsgLeavesOutWhatIsNotGiven(t *testing.T) {
	msg := natsx.NewMsg(message("a", "1"), natsx.Headers{}, false)
	if len(msg.Header) != 0 || msg.Subject != "herald.msg.a" {
		t.Errorf("got %s %v", msg.Subject, msg.Header)
	}
	msg = natsx.NewMsg(message("a", "1"), natsx.Headers{MsgID: "x", TTL: 5}, true)
	if len(msg.Header) != 0 || msg.Subject != "herald.live.a" {
		t.Errorf("ephemeral: got %s %v; there is nobody to remember or to forget it", msg.Subject, msg.Header)
	}
}

func TestTTL(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	for _, ttl := range []int64{1, 3600} {
		if _, err := js.PublishMsg(t.Context(), natsx.NewMsg(message("a", "1"), natsx.Headers{TTL: ttl}, false)); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, 15*time.Second, "the first one is gone", func() bool {
		page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: "a", Batch: 10})
		return err == nil && len(page.Messages) == 1 && page.Messages[0].Seq == 2
	})
}

func TestReadRefusesForeignMessages(t *testing.T) {
	for _, c := range []struct {
		name, subject, body string
		header              nats.Header
		seq                 uint64 // what is known all the same
	}{
		{"another subject", "orders.eu", `{"a":1}`, nil, 0},
		{"another subject that begins alike", "herald.lively.a", `{"a":1}`, nil, 0},
		{"no channel", "herald.live.", `{"a":1}`, nil, 0},
		{"bad channel", "herald.live.a'b", `{"a":1}`, nil, 0},
		{"channel that is too long", "herald.live." + strings.Repeat("a", 256), `{"a":1}`, nil, 0},
		{"empty body", "herald.live.a", "", nil, 0},
		{"one brace", "herald.live.a", "{", nil, 0},
		{"text", "herald.live.a", "hello", nil, 0},
		{"array", "herald.live.a", `["a"]`, nil, 0},
		{"no members", "herald.live.a", `{}`, nil, 0},
		{"no members, blanks", "herald.live.a", "{ \t\r\n}", nil, 0},
		{"no member name", "herald.live.a", `{,"a":1}`, nil, 0},
		{"cut off", "herald.live.a", `{"a":1`, nil, 0},
		{"trailing line break", "herald.live.a", "{\"a\":1}\n", nil, 0},
		{"sequence 0", "herald.live.a", `{"a":1}`, nats.Header{"Nats-Sequence": {"0"}}, 0},
		{"sequence is no number", "herald.live.a", `{"a":1}`, nats.Header{"Nats-Sequence": {"-1"}}, 0},
		{"stored text", "herald.live.a", "hello", nats.Header{"Nats-Sequence": {"7"}}, 7},
		{"inbox without subject", "_INBOX.x", `{"a":1}`, nats.Header{"Nats-Sequence": {"7"}}, 7},
		{"inbox with another subject", "_INBOX.x", `{"a":1}`, nats.Header{"Nats-Subject": {"orders.eu"}}, 0},
		{"inbox with a live subject, which is never stored", "_INBOX.x", `{"a":1}`, nats.Header{"Nats-Subject": {"herald.live.a"}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := natsx.Read(&nats.Msg{Subject: c.subject, Header: c.header, Data: []byte(c.body)})
			if !errors.Is(err, natsx.ErrForeign) {
				t.Errorf("got %+v, %v", r, err)
			}
			if r.Seq != c.seq || r.Channel != "" || r.Body != nil {
				t.Errorf("got %+v, want nothing but sequence %d", r, c.seq)
			}
		})
	}
	for _, body := range []string{`{"a":1}`, "{ \n\"channel\": \"a\" }"} {
		if _, err := natsx.Read(&nats.Msg{Subject: "herald.live.a", Data: []byte(body)}); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Somebody who may publish to NATS writes the headers that the server sets
// itself. Neither the live message nor the fetched one may take theirs.
func TestForgedServerHeaders(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	sub := live(t, nc)
	forged := &nats.Msg{Subject: "herald.msg.public.a", Data: []byte(`{"channel":"public.a"}`), Header: nats.Header{
		"Nats-Sequence": {"999"}, "Nats-Last-Sequence": {"998"}, "Nats-Subject": {"herald.msg.secret"}, "Status": {"204"}, "Nats-Num-Pending": {"7"},
	}}
	for range 2 {
		if _, err := js.PublishMsg(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
	}
	for want := uint64(1); want <= 2; want++ {
		r, err := natsx.Read(next(t, sub))
		if err != nil || r.Channel != "public.a" || r.Seq != want || r.Last != want-1 {
			t.Errorf("live: got %+v, %v", r, err)
		}
	}
	page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: ">", Batch: 10})
	if err != nil || len(page.Messages) != 2 || page.More {
		t.Fatalf("got %+v, %v", page, err)
	}
	for i, r := range page.Messages {
		if r.Channel != "public.a" || r.Seq != uint64(i)+1 {
			t.Errorf("fetched: got %+v", r)
		}
	}
	if seq, err := natsx.LastSeq(t.Context(), nc); err != nil || seq != 2 {
		t.Errorf("last: got %d, %v", seq, err)
	}
	forged.Subject = "herald.live.public.a"
	if err := nc.PublishMsg(&nats.Msg{Subject: forged.Subject, Data: forged.Data, Header: nats.Header{"Nats-Subject": {"herald.msg.secret"}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := natsx.Read(next(t, sub)); err != nil || r.Channel != "public.a" {
		t.Errorf("ephemeral: got %+v, %v", r, err)
	}
}
