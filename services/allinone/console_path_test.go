package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// until asks the console until the answer is what is wanted.
func (o *operator) until(path, what string, into any, is func() bool) {
	o.t.Helper()
	last := ""
	defer func() {
		if o.t.Failed() {
			o.t.Logf("%s: %s", path, last)
		}
	}()
	natstest.Eventually(o.t, time.Minute, what, func() bool {
		status, body := o.call(http.MethodGet, path, nil)
		last = body
		return status == http.StatusOK && json.Unmarshal([]byte(body), into) == nil && is()
	})
}

// tail opens a tail and returns the id of the first message that it shows.
func (o *operator) tail(ctx context.Context, query string) (opened <-chan struct{}, id <-chan string) {
	o.t.Helper()
	open, found := make(chan struct{}), make(chan string, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url+"tail?"+query, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	client := &http.Client{Transport: o.client.Transport, Jar: o.client.Jar}
	done := make(chan struct{})
	go func() { // ends with the first message, or ctx
		defer close(done)
		defer close(found)
		resp, err := client.Do(req)
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			switch text := lines.Text(); {
			case strings.HasPrefix(text, `data: {"connected":true}`):
				close(open)
			case strings.HasPrefix(text, "data: ") && strings.Contains(text, `"channel"`):
				var m proto.Message
				if json.Unmarshal([]byte(text[len("data: "):]), &m) == nil {
					found <- m.ID
				}
				return
			}
		}
	}()
	o.t.Cleanup(func() { <-done })
	return open, found
}

// Two gateways, two ingests and a logger behind the console: every connection is listed and can be closed, who is
// refused is told, and the path of a message is known from the ingest that accepted it to its row in the log.
func TestConsoleOfParts(t *testing.T) {
	nats := natstest.Start(t)
	dir := t.TempDir()
	common := []string{"HERALD_NATS_URL=" + nats.URL, "HERALD_API_KEY=" + testKey, "HERALD_LOG_LEVEL=warn"}
	addr := func() string { return "127.0.0.1:" + proctest.FreePort(t) }
	ingests, gateways, logger, admin := []string{addr(), addr()}, []string{addr(), addr()}, addr(), addr()
	procs := []*proctest.Process{start(t, "logger/cmd/logger", dir, common, "-listen", logger, "-ops-listen", "", "-db",
		filepath.Join(dir, "herald.db"))}
	for _, a := range ingests {
		procs = append(procs, start(t, "ingest/cmd/ingest", dir, common, "-listen", a, "-ops-listen", ""))
	}
	for _, a := range gateways {
		procs = append(procs, start(t, "gateway/cmd/gateway", dir, common, "-listen", a,
			"-ops-listen", "", "-drain-delay", "0s", "-drain", "1s"))
	}
	console := start(t, "admin/cmd/admin", dir, common, "-listen", admin, "-ops-listen", "")
	for _, a := range append([]string{logger, admin}, append(ingests, gateways...)...) {
		proctest.Ready(t, "http://"+a)
	}
	printed := console.Find(`user: +(\S+)\s+password: +(\S+)`)
	o := logInAs(t, "http://"+admin, printed[1], printed[2])

	var clients []*websocket.Conn
	for i := range 5 {
		ws, _, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://%s/ws?channel=broadcast&channel=public.%d",
			gateways[i%2], i), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.Close() })
		clients = append(clients, ws)
	}
	var overview struct {
		Connections int
		Services    []struct {
			Service, Instance string
			Ready             bool
		}
		Silent []string
	}
	o.until("overview", "all services and connections are there", &overview, func() bool {
		ready := 0
		for _, s := range overview.Services {
			if s.Ready {
				ready++
			}
		}
		return overview.Connections == 5 && ready == 6 && len(overview.Silent) == 0
	})
	var page struct {
		Rows []struct {
			Gateway, ID, Protocol string
			Channels              []string
		}
		Next    string
		Matched int
	}
	o.until("connections?limit=3&sort=since", "the first page", &page,
		func() bool { return page.Matched == 5 && len(page.Rows) == 3 && page.Next != "" })
	o.until("connections?limit=3&sort=since&cursor="+page.Next, "the second page", &page,
		func() bool { return page.Matched == 5 && len(page.Rows) == 2 && page.Next == "" })
	var channels struct {
		Rows []struct {
			Channel     string
			Subscribers int
		}
		Next string
	}
	o.until("channels?limit=1", "both gateways' followers are added up", &channels, func() bool {
		return len(channels.Rows) == 1 && channels.Rows[0].Channel == "broadcast" &&
			channels.Rows[0].Subscribers == 5 && channels.Next != ""
	})

	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	opened, found := o.tail(ctx, "channel=broadcast&text=needle")
	select {
	case <-opened:
	case <-ctx.Done():
		t.Fatal("the tail does not open")
	}
	if status, body := post(t, "http://"+ingests[1]+"/v1/messages", testKey, "application/json",
		`{"channel":"broadcast","data":{"needle":1.10}}`); status != http.StatusOK {
		t.Fatalf("publish: got %d %s", status, body)
	}
	id := <-found
	if id == "" {
		t.Fatal("the tail shows nothing")
	}
	var path struct {
		Accepted struct{ Ingest, Address, Request string }
		Stored   struct{ Sequence int }
		Gateways []struct {
			Clients, Sent int
			Known         bool
		}
		Log     struct{ Row bool }
		Unknown []string
	}
	o.until("messages/"+id, "the path is known", &path, func() bool {
		clients, known := 0, 0
		for _, g := range path.Gateways {
			clients += g.Clients
			if g.Known {
				known++
			}
		}
		return known == 2 && clients == 5 && path.Log.Row && path.Stored.Sequence > 0 && len(path.Unknown) == 0 &&
			path.Accepted.Ingest != "" && path.Accepted.Request != "" && path.Accepted.Address == "127.0.0.1"
	})

	if status, body := post(t, "http://"+ingests[0]+"/v1/messages", "hk_wrong-0123456789abcdef", "application/json",
		`{}`); status != http.StatusUnauthorized {
		t.Fatalf("a wrong key: got %d %s", status, body)
	}
	var refusals struct {
		Rows []struct{ Service, Reason, Path string }
	}
	o.until("refusals?reason=unauthorized", "the refusal is told", &refusals, func() bool {
		return len(refusals.Rows) == 1 && refusals.Rows[0].Service == "ingest" &&
			refusals.Rows[0].Path == "/v1/messages"
	})

	// A gateway that answers late is named, and has closed its connections all the same.
	if status, body := o.call(http.MethodPost, "kick", map[string]any{"address": "127.0.0.1", "code": 4006,
		"reason": "moving"}); status != http.StatusOK || !strings.HasPrefix(body, `{"kicked":5}`) &&
		!strings.Contains(body, `"silent":["gateway `) {
		t.Errorf("kick: got %d %s", status, body)
	}
	for i, ws := range clients {
		_ = ws.SetReadDeadline(time.Now().Add(2 * time.Minute))
		var err error
		last := ""
		for err == nil {
			var b []byte
			if _, b, err = ws.ReadMessage(); err == nil {
				last = string(b)
			}
		}
		if !websocket.IsCloseError(err, int(proto.CloseReconnect)) || !strings.Contains(last, `"detail":"moving"`) {
			t.Errorf("client %d: got %v after %s", i, err, last)
		}
	}

	// A gateway that stops says goodbye, and is missed by nobody.
	procs[len(procs)-1].Stop(20 * time.Second)
	o.until("overview", "one gateway is left", &overview,
		func() bool { return len(overview.Services) == 5 && len(overview.Silent) == 0 })
	console.Stop(20 * time.Second)
	for i := len(procs) - 2; i >= 0; i-- {
		procs[i].Stop(20 * time.Second)
	}
}
