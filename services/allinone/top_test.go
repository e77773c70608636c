package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
)

// seen is a look with a client that says of itself what a terminal must not obey.
func seen() *look {
	number := func(v float64) *float64 { return &v }
	now := time.Now()
	return &look{
		Snapshot: &ask.Snapshot{Time: now, Silent: []string{"gateway b (did not answer within 1s)"},
			Gateways: []ask.From[ask.GatewayStats]{
				{Instance: "a",
					Answer: ask.GatewayStats{Process: ask.NewProcess(ask.Gateway, "a", "v1").With(io.ErrUnexpectedEOF),
						Connections: map[string]int{"sse": 2, "websocket": 40}}},
			}},
		Figures: ask.Figures{Connections: number(42), Deliveries: number(1234.5)},
		clients: []ask.Connection{{ID: "c1", Address: "203.0.113.7", User: "\x1b[31mred\n", Protocol: "sse",
			QueuedBytes: 7, Since: now.Add(-time.Minute)}},
	}
}

func TestTopText(t *testing.T) {
	text := seen().text(0, plain)
	for _, want := range []string{"Connections  42   sse 2   websocket 40\n", "1234.5/s   published -", "p99 -",
		"not ready: unexpected EOF", "c1          203.0.113.7", "1m0s", "gateway b (did not answer within 1s)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Errorf("it has what a terminal obeys: %q", text)
	}
	for line := range strings.Lines(seen().text(30, styled)) {
		if n := ansi.StringWidth(strings.TrimSuffix(line, "\n")); n > 30 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if got := strings.Count(fitted(text, 5), "\n"); got != 5 {
		t.Errorf("fitted: got %d lines", got)
	}
}

// A narrow terminal keeps the columns that say what is wrong, and says what the keys do as far as it has room.
func TestTopNarrow(t *testing.T) {
	l := seen()
	for width, want := range map[int][2]string{
		0:   {"SERVICE INSTANCE HOST UP CLIENTS STATE", "CONNECTION ADDRESS USER PROTOCOL CHANNELS QUEUED SENT FOR"},
		200: {"SERVICE INSTANCE HOST UP CLIENTS STATE", "CONNECTION ADDRESS USER PROTOCOL CHANNELS QUEUED SENT FOR"},
		45:  {"SERVICE CLIENTS STATE", "ADDRESS USER QUEUED SENT FOR"},
		30:  {"SERVICE CLIENTS STATE", "ADDRESS QUEUED SENT"},
	} {
		titles := map[string]bool{}
		for line := range strings.Lines(l.text(width, plain)) {
			titles[strings.Join(strings.Fields(line), " ")] = true
		}
		if !titles[want[0]] || !titles[want[1]] {
			t.Errorf("%d columns: no %q in\n%s", width, want, l.text(width, plain))
		}
	}
	s := &screen{top: &top{every: time.Second}, order: "-queued", paused: true}
	for width, want := range map[int]string{0: "q quit   p pause (paused)   s sort (by queued)",
		46: "q quit   p pause (paused)",
		40: "paused, by queued: q p s", 12: "paused", 3: "pa…", 1: "…"} {
		s.width = width
		if got := ansi.Strip(s.keys()); !strings.HasPrefix(got, want) {
			t.Errorf("%d columns: got %q, want %q", width, got, want)
		}
	}
	if text := (&look{Snapshot: &ask.Snapshot{}}).text(0, plain); !strings.Contains(text, errNobody.Error()) {
		t.Errorf("nobody answers: got\n%s", text)
	}
}

// A Herald that starts anew has another address and password: top finds it, and says meanwhile that it is away.
func TestTopFindsTheNextHerald(t *testing.T) {
	cfg := defaultConfig()
	cfg.Data = t.TempDir()
	write := func(url string) {
		t.Helper()
		b, err := json.Marshal(address{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(addressFile(cfg.Data), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var l link
	defer l.close()
	reached := func() bool { _, err := l.reach(t.Context(), cfg); return err == nil }
	if _, err := l.reach(t.Context(), cfg); !errors.Is(err, errNotRunning) {
		t.Errorf("without a Herald: got %v", err)
	}
	one := natstest.Start(t)
	write(one.URL)
	if !reached() {
		t.Error("the first is not found")
	}
	one.Stop()
	natstest.Eventually(t, time.Minute, "it is missed", func() bool { return !reached() })
	if _, err := l.reach(t.Context(), cfg); !errors.Is(err, errNotRunning) ||
		!strings.Contains(err.Error(), "does not answer") {
		t.Errorf("while it is away: got %v", err)
	}
	two := natstest.Start(t)
	write(two.URL)
	natstest.Eventually(t, time.Minute, "the next is found", reached)
	l.close()
	if _, err := l.reach(t.Context(), cfg); !errors.Is(err, errLinkClosed) {
		t.Errorf("a link that was closed: got %v", err)
	}
}

// The screen looks, waits, pauses and sorts, with one look or wait under way at any time.
func TestTopScreen(t *testing.T) {
	s := &screen{top: &top{every: time.Second}, ctx: t.Context(), order: "-queued"}
	press := func(key rune) tea.Cmd {
		_, cmd := s.Update(tea.KeyPressMsg{Code: key, Text: string(key)})
		return cmd
	}
	if !strings.Contains(s.View().Content, "Asking") {
		t.Errorf("before the first look: %s", s.View().Content)
	}
	if _, cmd := s.Update(looked(seen())); cmd == nil {
		t.Error("after a look it does not wait")
	}
	s.Update(tea.WindowSizeMsg{Width: 60, Height: 12})
	if got := s.View(); strings.Count(got.Content, "\n") != 11 || !got.AltScreen ||
		!strings.Contains(got.Content, "by queued") {
		t.Errorf("got %d lines: %s", strings.Count(got.Content, "\n"), got.Content)
	}
	if press('p') != nil || !s.paused || press('s') != nil || s.order != "-sent" {
		t.Errorf("paused %v, order %s", s.paused, s.order)
	}
	if got := s.View().Content; !strings.Contains(got, "paused") || !strings.Contains(got, "by sent") {
		t.Errorf("got %s", got)
	}
	if _, cmd := s.Update(due{}); cmd == nil {
		t.Error("while it is paused it does not wait")
	}
	if cmd := press('q'); cmd == nil || cmd() != tea.Quit() {
		t.Error("q does not end it")
	}
}

// A terminal that says that it is dumb gets text.
func TestTopDraws(t *testing.T) {
	for kind, want := range map[string]bool{"xterm-256color": true, "vt100": true, "dumb": false} {
		if got := drawn(func(string) (string, bool) { return kind, true }); got != want {
			t.Errorf("TERM=%s: got %t", kind, got)
		}
	}
}

// A terminal shows what the services say, and q ends it; so does the end of the context.
func TestTopWatches(t *testing.T) {
	nats := natstest.Start(t)
	cfg := defaultConfig()
	cfg.NATS.URL = nats.URL
	for _, key := range []string{"q", ""} {
		ctx, cancel := context.WithCancel(t.Context())
		in, type_ := io.Pipe()
		out := &logtest.Buffer{}
		done := make(chan error, 1)
		go func() {
			top := &top{cfg: cfg, every: time.Second, rows: 3}
			defer top.link.close()
			done <- top.watch(ctx, in, out, tea.WithWindowSize(80, 24))
		}() // ends with q or cancel
		natstest.Eventually(t, 30*time.Second, "it shows something",
			func() bool { return strings.Contains(out.String(), "Connections") })
		if key == "" {
			cancel()
		} else if _, err := io.WriteString(type_, key); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%q: %v", key, err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("%q: it goes on", key)
		}
		cancel()
		_ = type_.Close()
	}
}
