package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/internal/natstest"
)

// poller is an Engine.IO client that polls, one request at a time.
type poller struct {
	t        testing.TB
	url, sid string
	cut      context.CancelFunc // of the request that start began last
}

// polled is an answer.
type polled struct {
	status int
	kind   string
	body   string
}

// poller opens a session that polls.
func (g *gate) poller(eio int, more string) *poller {
	g.t.Helper()
	p := &poller{t: g.t, url: fmt.Sprintf("http://%s/socket.io/?EIO=%d&transport=polling%s", g.Addr(), eio, more)}
	r := p.do(http.MethodGet, "")
	greeting := r.body
	if eio == 3 {
		_, greeting, _ = strings.Cut(greeting, ":")
		greeting, _, _ = strings.Cut(greeting, "}")
		greeting += "}"
	}
	var v struct {
		SID      string
		Upgrades []string
	}
	if r.status != 200 || json.Unmarshal([]byte(strings.TrimPrefix(greeting, "0")), &v) != nil || len(v.Upgrades) != 1 {
		g.t.Fatalf("the session began with %+v", r)
	}
	p.sid = v.SID
	p.url += "&sid=" + v.SID
	return p
}

func (p *poller) start(method, body string) <-chan polled {
	ctx, cut := context.WithTimeout(context.Background(), patience)
	p.cut = cut
	answer := make(chan polled, 1)
	go func() { // ends with the answer, or with patience
		defer cut()
		r, err := http.NewRequestWithContext(ctx, method, p.url, strings.NewReader(body))
		if err == nil {
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(r); err == nil {
				defer func() { _ = resp.Body.Close() }()
				b, _ := io.ReadAll(resp.Body)
				answer <- polled{resp.StatusCode, resp.Header.Get("Content-Type"), string(b)}
				return
			}
		}
		answer <- polled{body: err.Error()}
	}()
	return answer
}

func (p *poller) do(method, body string) polled {
	p.t.Helper()
	return <-p.start(method, body)
}

// send posts packets, which must be taken.
func (p *poller) send(body string) {
	p.t.Helper()
	if r := p.do(http.MethodPost, body); r.status != 200 || r.body != "ok" {
		p.t.Fatalf("POST %q: got %+v", body, r)
	}
}

// get reads a response that begins so.
func (p *poller) get(prefix string) string {
	p.t.Helper()
	r := p.do(http.MethodGet, "")
	if r.status != 200 || !strings.HasPrefix(r.body, prefix) {
		p.t.Fatalf("GET: got %+v, want something that begins with %q", r, prefix)
	}
	return r.body
}

// unknown asserts that the session is gone, perhaps after a goodbye.
func (p *poller) unknown() {
	p.t.Helper()
	r := p.do(http.MethodGet, "")
	for r.status == http.StatusOK && (strings.HasSuffix(r.body, "1") || strings.HasSuffix(r.body, "6")) { // the goodbye
		r = p.do(http.MethodGet, "")
	}
	if v := refusalOf(p.t, r.body); r.status != 400 || v.Code != int(engineio.UnknownSID) &&
		v.Code != int(engineio.BadRequest) {
		p.t.Errorf("the session is not gone: %+v", r)
	}
}

// await waits until the gateway holds a GET open, unless it is answered at once.
func (g *gate) await(answer <-chan polled) {
	g.t.Helper()
	natstest.Eventually(g.t, patience, "a GET is open", func() bool {
		return len(answer) > 0 || g.engine.Waiting() > 0
	})
}
