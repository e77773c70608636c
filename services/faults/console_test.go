package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

const adminCommand = module + "admin/cmd/admin"

// console is the console as a process, and a page of it that somebody has open: it asks for the overview, charts,
// connections, channels and refusals all the time, shows the tail, and the path of each message that the tail shows.
type console struct {
	*service
	client *http.Client
	login  []byte

	answered atomic.Int64 // calls with 200
	refused  atomic.Int64 // with another status, while something is away
	tailed   atomic.Int64 // messages in the tail
	paths    atomic.Int64 // messages of which a gateway knew what became of them
	strange  atomic.Pointer[string]
}

// openConsole starts it and opens the page, until the test ends.
func (s *system) openConsole() *console {
	s.t.Helper()
	if s.console != nil {
		return s.console
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &console{service: newService(s.t, adminCommand, s.t.TempDir(), s.natsURL),
		client: &http.Client{Jar: jar, Transport: &http.Transport{}}}
	c.await()
	printed := c.p.Find(`user: +(\S+)\s+password: +(\S+)`)
	if c.login, err = json.Marshal(map[string]string{"user": printed[1], "password": printed[2]}); err != nil {
		s.t.Fatal(err)
	}
	if err := c.logIn(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.console = c
	ctx, stop := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	ids := make(chan string, 100) // of messages in the tail; never closed
	looking.Go(func() { c.look(ctx, ids) })
	looking.Go(func() { c.tail(ctx, ids) })
	s.t.Cleanup(func() {
		stop()
		looking.Wait()
		c.client.CloseIdleConnections()
	})
	return c
}

func (c *console) url(path string) string { return "http://" + c.addr + "/admin/api/" + path }

func (c *console) logIn(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("login"), bytes.NewReader(c.login))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// look asks what pages ask, one call after the other.
func (c *console) look(ctx context.Context, ids <-chan string) {
	for ctx.Err() == nil {
		for _, path := range []string{"overview", "connections?sort=-since&limit=100",
			"charts", "channels", "addresses", "refusals"} {
			if text, ok := c.get(ctx, path); ok && !json.Valid(text) {
				c.say(path + " is no JSON: " + string(text))
			}
		}
		select {
		case id := <-ids:
			if text, ok := c.get(ctx, "messages/"+id); ok && bytes.Contains(text, []byte(`"known":true`)) {
				c.paths.Add(1)
			}
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (c *console) say(what string) { c.strange.CompareAndSwap(nil, &what) }

// get asks once. What is away is answered by 503 or, of one message, 404; anything else is strange.
func (c *console) get(ctx context.Context, path string) ([]byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(path), nil)
	if err != nil {
		return nil, false
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, false // ctx ended, or the answer took too long
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusOK:
		c.answered.Add(1)
		return text, true
	case resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusNotFound &&
		strings.HasPrefix(path, "messages/"):
		c.refused.Add(1)
	default:
		c.say(path + ": " + resp.Status + ": " + string(text))
	}
	return nil, false
}

// tail keeps a tail open, and passes on some of the ids that it shows.
func (c *console) tail(ctx context.Context, ids chan<- string) {
	id := regexp.MustCompile(`"id":"([0-9a-z]+-[0-9]+)"`)
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url("tail"), nil)
		if err != nil {
			return
		}
		if resp, err := c.client.Do(req); err == nil {
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if m := id.FindStringSubmatch(lines.Text()); m != nil {
					c.tailed.Add(1)
					select {
					case ids <- m[1]:
					default: // enough of them wait
					}
				}
			}
			_ = resp.Body.Close()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Gateways and an ingest are killed while a console is open: it goes on showing what there is, and no promise suffers.
func TestConsoleOpen(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 2, gateways: 2})
	c := s.openConsole()
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(3, s.gatewayAddrs(), names)
	kills := times(10, 2)
	l := s.publisher.startLoad(4, 300, 200, names)
	for i := range kills {
		for _, victim := range []*service{s.gateways[i%2], s.ingests[i%2]} {
			s.flowing()
			victim.kill()
			s.flowing()
			victim.start()
			victim.await()
		}
	}
	s.flowing()
	natstest.Eventually(t, time.Minute, "the console shows a message's path",
		func() bool { return c.paths.Load() > 0 && c.tailed.Load() > 0 })
	l.stop()
	s.settle(names)
	if strange := c.strange.Load(); strange != nil {
		t.Errorf("the console answers: %s", *strange)
	}
	report(t, s.verdict(), "",
		"`kill -9` of gateways and ingests in turn, ×%d, with an open console: %d answers, %d messages in the "+
			"tail, %d paths", kills, c.answered.Load(), c.tailed.Load(), c.paths.Load())
}
