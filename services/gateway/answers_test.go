package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// asker asks gateways until the test ends.
func (b *broker) asker() *ask.Client {
	b.t.Helper()
	c, err := ask.NewClient(b.Connect())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

// told asks this gateway, and waits until it answers.
func told[A any](g *gate, c *ask.Client, what string, question any) A {
	g.t.Helper()
	var a A
	var err error
	deadline := time.Now().Add(patience)
	for {
		if a, err = ask.One[A](g.t.Context(), c, ask.Gateway, g.answers.process.Instance, what, question); err == nil {
			return a
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s %+v: %v", what, question, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// dialects connects a client of each protocol to the app gateway g. Each returned function reads how the client was
// closed.
func dialects(g *gate) map[string]func() string {
	g.t.Helper()
	ws := g.dialAs(token(g.t, "ada", time.Hour, "orders.>"), channels("orders.eu", "public.a"))
	ws.want(proto.FrameWelcome)
	events := g.events("channel=public.b")
	events.want(proto.FrameWelcome)
	io, _ := g.io(`{"channels":["public.c"]}`, nil)
	shop := g.pusher()
	shop.subscribe("books", "")
	return map[string]func() string{
		"websocket": func() string {
			code, last := ws.closed()
			return fmt.Sprint(uint16(code), " ", last.Detail)
		},
		"sse": func() string { return fmt.Sprint(uint16(events.closed())) },
		"socketio": func() string {
			code, before := io.ended()
			return fmt.Sprint(code, " ", slices.Contains(before, "41"), " ", strings.Contains(strings.Join(before, ""),
				"enough for today"))
		},
		"pusher": func() string {
			code, reason, _ := shop.closed()
			return fmt.Sprint(code, " ", reason)
		},
	}
}

// dialAs connects a client with a token and an agent.
func (g *gate) dialAs(token, query string) *client {
	g.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience}
	ws, resp, err := d.Dial("ws://"+g.Addr().String()+"/ws?"+query, http.Header{"Authorization": {"Bearer " + token},
		"User-Agent": {"Test/1"}})
	if err != nil {
		g.t.Fatalf("connect: %v (%v)", err, resp)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	return &client{t: g.t, ws: ws}
}

func protocols(p ask.ConnectionsPage) (out []string) {
	for _, row := range p.Rows {
		out = append(out, row.Protocol)
	}
	slices.Sort(out)
	return out
}

// The connections of every protocol are told, and found by all that they may be asked for by.
func TestConnectionsAnswered(t *testing.T) {
	b, g, _ := shopGateway(t, withTokens)
	natstest.Eventually(t, patience, "the secret is shared", func() bool { return g.pids.Load() != nil })
	c := b.asker()
	dialects(g)
	all := told[ask.ConnectionsPage](g, c, ask.Connections, ask.ConnectionsQuestion{Sort: "since"})
	if got := protocols(all); all.Total != 4 || all.Matched != 4 ||
		!slices.Equal(got, []string{"pusher", "socketio", "sse", "websocket"}) {
		t.Fatalf("got %d rows of %v", all.Total, got)
	}
	g.session(4, "", nil) // which has not entered the namespace: nobody knows yet who it is
	natstest.Eventually(t, patience, "it is there", func() bool {
		p := told[ask.ConnectionsPage](g, c, ask.Connections, ask.ConnectionsQuestion{Protocol: "socketio",
			Sort: "user"})
		return p.Total == 5 && p.Matched == 2 && p.Rows[0].User == "" &&
			p.Rows[0].ChannelCount+p.Rows[1].ChannelCount == 1
	})
	row := all.Rows[slices.IndexFunc(all.Rows, func(r ask.Connection) bool { return r.Protocol == "websocket" })]
	if row.Protocol != "websocket" || row.User != "ada" || row.Address != "127.0.0.1" || row.Agent != "Test/1" ||
		row.Gateway != g.answers.process.Instance ||
		!slices.Equal(row.Channels, []string{"orders.eu", "public.a"}) || row.ChannelCount != 2 ||
		time.Since(row.Since) > patience || row.SentBytes == 0 || row.LastID == "" {
		t.Errorf("got %+v", row)
	}
	last := b.publish("orders.eu", `"x"`)
	natstest.Eventually(t, patience, "the message is counted", func() bool {
		p := told[ask.ConnectionsPage](g, c, ask.Connections, ask.ConnectionsQuestion{User: "ada"})
		return len(p.Rows) == 1 && p.Rows[0].SentMessages == 1 && p.Rows[0].LastID == b.id(last)
	})
	for name, q := range map[string]struct {
		question ask.ConnectionsQuestion
		want     []string
	}{
		"user":         {ask.ConnectionsQuestion{User: "ada"}, []string{"websocket"}},
		"no such user": {ask.ConnectionsQuestion{User: "shop"}, nil},
		"protocol":     {ask.ConnectionsQuestion{Protocol: "sse"}, []string{"sse"}},
		"address": {ask.ConnectionsQuestion{Address: "127.0.0.1"}, []string{"pusher", "socketio", "socketio",
			"sse", "websocket"}},
		"prefix":             {ask.ConnectionsQuestion{Address: "127.0.0.0/8", Protocol: "sse"}, []string{"sse"}},
		"other prefix":       {ask.ConnectionsQuestion{Address: "10.0.0.0/8"}, nil},
		"channel":            {ask.ConnectionsQuestion{Channel: "public.a"}, []string{"websocket"}},
		"pattern":            {ask.ConnectionsQuestion{Channel: "public.*"}, []string{"socketio", "sse", "websocket"}},
		"text of a channel":  {ask.ConnectionsQuestion{Text: "books"}, []string{"pusher"}},
		"text of the agent":  {ask.ConnectionsQuestion{Text: "Test/"}, []string{"websocket"}},
		"text of the id":     {ask.ConnectionsQuestion{Text: row.ID}, []string{"websocket"}},
		"two that are apart": {ask.ConnectionsQuestion{User: "ada", Protocol: "sse"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := told[ask.ConnectionsPage](g, c, ask.Connections, q.question)
			if got := protocols(p); !slices.Equal(got, q.want) || p.Matched != len(q.want) || p.Total != 5 {
				t.Errorf("got %v, want %v", got, q.want)
			}
		})
	}
	for name, q := range map[string]ask.ConnectionsQuestion{
		"sort": {Sort: "size"}, "limit": {Limit: 1000}, "cursor": {Cursor: "x"}, "address": {Address: "here"},
		"protocol": {Protocol: "mqtt"}, "channel": {Channel: "a..b"},
	} {
		var e *ask.Error
		if _, err := ask.One[ask.ConnectionsPage](t.Context(), c, ask.Gateway, g.answers.process.Instance,
			ask.Connections, q); !errors.As(err, &e) || !strings.HasPrefix(e.Text, name) {
			t.Errorf("a wrong %s: got %v", name, err)
		}
	}
	stats := told[ask.GatewayStats](g, c, ask.Stats, nil)
	if !stats.Ready || stats.Connections["websocket"] != 1 || stats.Connections["pusher"] != 1 ||
		stats.Deliveries != 1 || stats.Latency.Count != 1 || stats.Limit != g.cfg.MaxPerIP {
		t.Errorf("stats: got %+v", stats)
	}
}

// Each protocol is closed in its own words, and told whether to come back.
func TestKick(t *testing.T) {
	for code, want := range map[proto.CloseCode]map[string]string{
		proto.CloseKicked: {"websocket": "4501 enough for today", "sse": "4501", "socketio": "4501 true true",
			"pusher": "4009 kicked"},
		proto.CloseReconnect: {"websocket": "4006 enough for today", "sse": "4006", "socketio": "4006 false true",
			"pusher": "4200 reconnect"},
	} {
		t.Run(code.String(), func(t *testing.T) {
			b, g, _ := shopGateway(t, withTokens)
			natstest.Eventually(t, patience, "the secret is shared", func() bool { return g.pids.Load() != nil })
			c := b.asker()
			closed := dialects(g)
			ada := told[ask.ConnectionsPage](g, c, ask.Connections, ask.ConnectionsQuestion{Protocol: "sse"}).Rows[0]
			for i, q := range []ask.KickQuestion{{User: "ada"}, {ID: ada.ID}, {Address: "127.0.0.0/8"}} {
				q.Code, q.By, q.Reason = int(code), "test", "enough for today"
				if got := told[ask.KickAnswer](g, c, ask.Kick, q); got.Kicked != []int{1, 1, 2}[i] {
					t.Errorf("%+v: got %d", q, got.Kicked)
				}
			}
			for protocol, w := range want {
				if got := closed[protocol](); got != w {
					t.Errorf("%s: got %s, want %s", protocol, got, w)
				}
			}
			if got := told[ask.KickAnswer](g, c, ask.Kick,
				ask.KickQuestion{User: "ada", Code: int(code)}); got.Kicked != 0 {
				t.Errorf("who is gone was closed again: %d", got.Kicked)
			}
		})
	}
	b := newBroker(t)
	g, c := b.gateway(), b.asker()
	told[ask.GatewayStats](g, c, ask.Stats, nil)
	for _, q := range []ask.KickQuestion{{User: "ada"}, {User: "ada", Code: 1000}, {Code: 4501},
		{User: "ada", ID: "x", Code: 4501}, {Address: "x", Code: 4501}} {
		var e *ask.Error
		if _, err := ask.One[ask.KickAnswer](t.Context(), c, ask.Gateway, g.answers.process.Instance, ask.Kick,
			q); !errors.As(err, &e) {
			t.Errorf("%+v: got %v, want a refusal", q, err)
		}
	}
}

// Why a client does not connect is told, without what is secret.
func TestRefusalsAnswered(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens, func(c *Config) { c.MaxPerIP, c.AnonymousChannels = 1, []string{"public.>"} })
	c := b.asker()
	const secret = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0"
	bad, _, _ := g.try("channel=public.a&token="+secret, nil)
	bad.closed()
	if _, resp, err := g.try("channel=public.a", http.Header{"Origin": {"https://evil.example"}}); err == nil ||
		resp.StatusCode != http.StatusForbidden {
		t.Fatalf("a page of another origin: got %v", err)
	}
	if resp, _ := g.call(http.MethodGet, "/sse?channel=orders", nil); resp.StatusCode != http.StatusForbidden {
		t.Fatalf("a channel that needs a token: got %s", resp.Status)
	}
	g.nobodyIsCounted() // a client whose token is bad counts until it has left
	first, _ := g.connect("channel=public.a")
	second := g.dial("channel=public.a")
	second.closed()
	var got []string
	answer := told[ask.RefusalsAnswer](g, c, ask.Refusals, nil)
	for _, r := range answer.Rows {
		got = append(got, fmt.Sprint(r.Reason, " ", r.Status, " ", r.Code, " ", r.Address, " ", r.Path, " ", r.Origin))
		if r.Request == "" || r.Detail == "" || r.Service != "gateway" || r.Instance != g.answers.process.Instance ||
			time.Since(r.Time) > patience {
			t.Errorf("got %+v", r)
		}
	}
	want := []string{
		"too-many-connections 0 4003 127.0.0.1 /ws ", "forbidden 403 1008 127.0.0.1 /sse ",
		"origin 403 0 127.0.0.1 /ws https://evil.example", "token-invalid 0 4500 127.0.0.1 /ws ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if text, err := json.Marshal(answer); err != nil || strings.Contains(string(text), secret[:20]) {
		t.Errorf("the token is told: %s, %v", text, err)
	}
	if a := told[ask.RefusalsAnswer](g, c, ask.Refusals, ask.RefusalsQuestion{Reason: "origin",
		Address: "127.0.0.1"}); len(a.Rows) != 1 {
		t.Errorf("by reason: got %d", len(a.Rows))
	}
	if a := told[ask.RefusalsAnswer](g, c, ask.Refusals,
		ask.RefusalsQuestion{Address: "10.0.0.0/8"}); len(a.Rows) != 0 {
		t.Errorf("by address: got %d", len(a.Rows))
	}
	page := told[ask.TallyPage](g, c, ask.Addresses, nil)
	if len(page.Rows) != 1 || page.Rows[0].Name != "127.0.0.1" || page.Rows[0].Count != 1 ||
		page.Rows[0].Refused != 4 || page.Limit != 1 {
		t.Errorf("addresses: got %+v", page)
	}
	_ = first
}

// What became of a message is told if somebody asked before it came.
func TestMessagePathAnswered(t *testing.T) {
	b := newBroker(t)
	g, c := b.gateway(), b.asker()
	for range 3 {
		g.connect("channel=a")
	}
	early := b.publish("a", `"early"`)
	g.reached(early)
	path := told[ask.GatewayPath](g, c, ask.MessagePath, ask.PathQuestion{ID: b.id(early), Channel: "a"})
	if path.Known || path.Followers != 3 || path.Since == nil {
		t.Errorf("of before anybody asked: got %+v", path)
	}
	id := b.id(b.publish("a", `"late"`))
	natstest.Eventually(t, patience, "it is told", func() bool {
		path = told[ask.GatewayPath](g, c, ask.MessagePath, ask.PathQuestion{ID: id, Channel: "a"})
		return path.Known && path.Clients == 3
	})
	if path.Sent != 3 || path.Queued != 0 || path.Dropped != 0 || path.Slowest <= 0 {
		t.Errorf("got %+v", path)
	}
	for _, other := range []string{"zzzz-1", b.id(99)} {
		if path := told[ask.GatewayPath](g, c, ask.MessagePath, ask.PathQuestion{ID: other}); path.Known {
			t.Errorf("%s: got %+v", other, path)
		}
	}
	g.answers.watch.Off()
	if path := told[ask.GatewayPath](g, c, ask.MessagePath, ask.PathQuestion{ID: id}); path.Known {
		t.Errorf("after nobody asked for long: got %+v", path)
	}
}

func TestChannelsAnswered(t *testing.T) {
	b := newBroker(t)
	g, c := b.gateway(), b.asker()
	for i := range 5 {
		g.connect(channels("all", fmt.Sprintf("own.%d", i%3), "own.>"))
	}
	last := b.publishMany(30, "all", "own.0", "other")
	g.reached(last)
	page := told[ask.TallyPage](g, c, ask.Channels, ask.TallyQuestion{Limit: 3})
	if page.Total != 5 || page.Matched != 5 || len(page.Rows) != 3 || page.Next == "" || page.Rows[0].Count != 5 ||
		page.Rows[1].Count != 5 {
		t.Fatalf("got %+v", page)
	}
	rest := told[ask.TallyPage](g, c, ask.Channels, ask.TallyQuestion{Limit: 3, Cursor: page.Next})
	if len(rest.Rows) != 2 || rest.Next != "" {
		t.Errorf("the second page: got %+v", rest)
	}
	for _, row := range append(page.Rows, rest.Rows...) {
		switch {
		case row.Name == "own.>" && (row.Rate != nil || row.LastID != ""),
			row.Name == "all" && (row.Rate == nil || *row.Rate <= 0 || row.LastID != b.id(last-2)),
			row.Name == "own.1" && (row.Rate == nil || *row.Rate != 0 || row.LastID != "" || row.Count != 2):
			t.Errorf("got %+v", row)
		}
	}
	if p := told[ask.TallyPage](g, c, ask.Channels,
		ask.TallyQuestion{Sort: "-rate", Limit: 1}); p.Rows[0].Name != "own.0" && p.Rows[0].Name != "all" {
		t.Errorf("by rate: got %+v", p)
	}
	if p := told[ask.TallyPage](g, c, ask.Channels, ask.TallyQuestion{Text: "own.", Sort: "name"}); p.Matched != 4 ||
		p.Rows[0].Name != "own.0" {
		t.Errorf("by text: got %+v", p)
	}
	if p := told[ask.TallyPage](g, c, ask.Channels,
		ask.TallyQuestion{Names: []string{"all", "none"}}); len(p.Rows) != 1 ||
		p.Rows[0].Count != 5 {
		t.Errorf("by name: got %+v", p)
	}
}
