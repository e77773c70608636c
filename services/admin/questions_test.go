package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// serve answers as one instance of a service until the test ends. The tests of services/allinone have real ones.
func (c *console) serve(service, instance string, answers map[string]ask.Answer) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	nc := c.nats.Connect()
	var wg sync.WaitGroup
	wg.Go(func() { // ends with cancel
		if err := ask.Serve(ctx, ask.Spec{NATS: nc, Log: natstest.Log(c.t), Service: service, Instance: instance,
			Version: "v1.0.0", Answers: answers}); err != nil {
			c.t.Errorf("serve %s: %v", service, err)
		}
	})
	c.t.Cleanup(func() { cancel(); wg.Wait() })
	natstest.Eventually(c.t, 30*time.Second, "it answers", func() bool {
		for what := range answers {
			if _, err := ask.One[json.RawMessage](ctx, c.ask, service, instance, what, nil); err != nil &&
				strings.Contains(err.Error(), "there is no") {
				return false
			}
		}
		return true
	})
}

// rows is a gateway with these connections.
func rows(gateway string, n int, row func(i int) ask.Connection) ask.Answer {
	return ask.Handle(func(_ context.Context, q ask.ConnectionsQuestion) (out ask.ConnectionsPage, err error) {
		order, err := ask.ParseOrder(q.Sort, ask.ConnectionOrders...)
		if err != nil {
			return out, err
		}
		after, err := order.After(q.Cursor)
		if err != nil {
			return out, err
		}
		top := ask.NewTop[ask.Connection](order, after, q.Limit)
		for i := range n {
			c := row(i)
			c.Gateway = gateway
			out.Total++
			if q.User != "" && c.User != q.User {
				continue
			}
			out.Matched++
			if k := c.Key(order.By); top.Wants(k) {
				top.Add(k, c)
			}
		}
		out.Rows, out.Next, err = top.Page(2000) // a page is cut short
		return out, err
	})
}

// Pages of several gateways are one list: each connection once, in order, also where a gateway's part was cut short.
func TestConnectionsOfAllGateways(t *testing.T) {
	c := start(t)
	for g := range 3 {
		c.serve(ask.Gateway, fmt.Sprintf("g%d", g),
			map[string]ask.Answer{ask.Connections: rows(fmt.Sprintf("g%d", g), 40+g, func(i int) ask.Connection {
				return ask.Connection{ID: fmt.Sprintf("%d-%02d", g, i), User: fmt.Sprintf("u%d", i%7),
					QueuedBytes: i % 5, Since: time.UnixMilli(int64(i)), Channels: []string{}}
			})})
	}
	b := c.as(users.Viewer)
	for _, sort := range []string{"-queued", "since", "user", ""} {
		order, err := ask.ParseOrder(sort, ask.ConnectionOrders...)
		if err != nil {
			t.Fatal(err)
		}
		var got []ask.Connection
		cursor := ""
		for pages := 0; pages == 0 || cursor != ""; pages++ {
			var page list[ask.Connection]
			b.want(http.StatusOK, "GET", "api/connections?limit=9&sort="+sort+"&cursor="+cursor, nil).json(t, &page)
			if page.Total != 123 || page.Matched != 123 || len(page.Silent) > 0 || len(page.Rows) > 9 || pages > 123 {
				t.Fatalf("%s: got %+v", sort, page)
			}
			got, cursor = append(got, page.Rows...), page.Next
		}
		ids := map[string]bool{}
		for _, row := range got {
			ids[row.ID] = true
		}
		if len(got) != 123 || len(ids) != 123 ||
			!slices.IsSortedFunc(got,
				func(a, b ask.Connection) int { return order.Compare(a.Key(order.By), b.Key(order.By)) }) {
			t.Errorf("%s: got %d rows, %d different", sort, len(got), len(ids))
		}
	}
	var page list[ask.Connection]
	b.want(http.StatusOK, "GET", "api/connections?gateway=g1&user=u3", nil).json(t, &page)
	if page.Matched != 6 || page.Total != 41 || page.Rows[0].Gateway != "g1" {
		t.Errorf("of one gateway: got %+v", page)
	}
	for path, status := range map[string]int{"sort=size": 400, "limit=0": 400, "limit=x": 400, "cursor=x": 400,
		"gateway=g9": 404, "gateway=*": 404, "color=red": 400} {
		b.want(status, "GET", "api/connections?"+path, nil)
	}
}

// A gateway that does not answer is named, and the others' rows are shown.
func TestSilentGateway(t *testing.T) {
	c := start(t)
	c.ask.Patient(2 * time.Second) // nobody has asked yet
	row := func(i int) ask.Connection { return ask.Connection{ID: fmt.Sprint(i), Channels: []string{}} }
	hang := make(chan struct{})
	var deaf sync.Map
	c.serve(ask.Gateway, "a", map[string]ask.Answer{ask.Connections: rows("a", 3, row)})
	answer := rows("b", 3, row)
	c.serve(ask.Gateway, "b", map[string]ask.Answer{ask.Connections: func(ctx context.Context, q []byte) (any, error) {
		if _, ok := deaf.Load("b"); ok {
			<-hang
		}
		return answer(ctx, q)
	}})
	defer close(hang)
	b := c.as(users.Viewer)
	total := func() (list[ask.Connection], bool) {
		var page list[ask.Connection]
		b.want(http.StatusOK, "GET", "api/connections", nil).json(t, &page)
		return page, page.Total == 6
	}
	natstest.Eventually(t, 30*time.Second, "both answer", func() bool { _, ok := total(); return ok })
	deaf.Store("b", true)
	natstest.Eventually(t, 30*time.Second, "one is named", func() bool {
		page, _ := total()
		return page.Total == 3 && slices.Equal(page.Silent, []string{"gateway b (did not answer within 2s)"})
	})
}

// Kicks need the role, reach the gateway, and are in the audit.
func TestKicks(t *testing.T) {
	c := start(t)
	var mu sync.Mutex
	var asked []ask.KickQuestion
	for _, g := range []string{"a", "b"} {
		c.serve(ask.Gateway, g,
			map[string]ask.Answer{
				ask.Kick: ask.Handle(func(_ context.Context, q ask.KickQuestion) (out ask.KickAnswer, err error) {
					mu.Lock()
					defer mu.Unlock()
					if q.By == "" { // the test asks whether it is there
						return out, nil
					}
					if q.Code == 1000 {
						return out, ask.Refuse(422, "code: not that")
					}
					if q.ID != "gone" {
						out.Kicked = 1
					}
					asked = append(asked, q)
					return out, nil
				})})
	}
	c.as(users.Viewer).want(http.StatusForbidden, "POST", "api/connections/a/x/kick", map[string]any{"code": 4501})
	c.as(users.Viewer).want(http.StatusForbidden, "POST", "api/kick", map[string]any{"user": "ada"})
	b := c.as(users.Operator)
	var got ask.KickAnswer
	b.want(http.StatusOK, "POST", "api/connections/a/x1/kick",
		map[string]any{"code": 4006, "reason": "why"}).json(t, &got)
	if got.Kicked != 1 || len(asked) != 1 || asked[0].ID != "x1" || asked[0].Code != 4006 || asked[0].Reason != "why" ||
		!strings.HasPrefix(asked[0].By, "operator-") {
		t.Errorf("got %+v, asked %+v", got, asked)
	}
	natstest.Eventually(t, 30*time.Second, "both gateways close", func() bool {
		b.want(http.StatusOK, "POST", "api/kick", map[string]any{"user": "ada"}).json(t, &got)
		return got.Kicked == 2
	})
	b.want(http.StatusNotFound, "POST", "api/connections/a/gone/kick", map[string]any{"code": 4501})
	b.want(http.StatusNotFound, "POST", "api/connections/c/x/kick", map[string]any{"code": 4501})
	b.want(http.StatusUnprocessableEntity, "POST", "api/connections/a/x/kick", map[string]any{"code": 1000})
	b.want(http.StatusUnprocessableEntity, "POST", "api/connections/a/x/kick",
		map[string]any{"code": 4501, "user": "ada"})
	b.want(http.StatusBadRequest, "POST", "api/kick", map[string]any{"who": "ada"})
	b.want(http.StatusUnprocessableEntity, "POST", "api/kick", map[string]any{"code": 4501})
	b.want(http.StatusUnprocessableEntity, "POST", "api/kick", map[string]any{"user": "ada", "address": "10.0.0.1"})
	text := c.as(users.Admin).want(http.StatusOK, "GET", "api/audit?action=kick", nil).body
	if !strings.Contains(text, "connection x1") || !strings.Contains(text, "user ada") ||
		!strings.Contains(text, `"why"`) || strings.Contains(text, "gone") {
		t.Errorf("audit: %s", text)
	}
}

// counts is a gateway with these counts.
func counts(of map[string]int, orders []string) ask.Answer {
	return ask.Handle(func(_ context.Context, q ask.TallyQuestion) (out ask.TallyPage, err error) {
		order, err := ask.ParseOrder(q.Sort, orders...)
		if err != nil {
			return out, err
		}
		after, err := order.After(q.Cursor)
		if err != nil {
			return out, err
		}
		top := ask.NewTop[ask.Tally](order, after, max(q.Limit, len(q.Names), 1))
		for name, n := range of {
			if q.Names != nil && !slices.Contains(q.Names, name) || !strings.Contains(name, q.Text) {
				continue
			}
			row := ask.Tally{Name: name, Count: n}
			if k := row.Key(order.By); top.Wants(k) {
				top.Add(k, row)
			}
		}
		out.Total, out.Matched, out.Limit = len(of), len(of), 2000
		out.Rows, out.Next, err = top.Page(1 << 20)
		return out, err
	})
}

// Counts of several gateways are added up, in both orders, and the page has the limit beside them.
func TestTallies(t *testing.T) {
	c := start(t)
	want := map[string]int{}
	for g := range 2 {
		of := map[string]int{}
		for i := range 60 {
			if i%2 == g || i%3 == 0 {
				name := fmt.Sprintf("c%02d", i)
				of[name] = (i*7+g)%20 + 1
				want[name] += of[name]
			}
		}
		c.serve(ask.Gateway, fmt.Sprintf("g%d", g), map[string]ask.Answer{ask.Channels: counts(of, ask.ChannelOrders),
			ask.Addresses: counts(of, ask.AddressOrders)})
	}
	b := c.as(users.Viewer)
	natstest.Eventually(t, 30*time.Second, "both answer", func() bool {
		answers, _, err := ask.All[ask.TallyPage](t.Context(), c.ask, ask.Gateway, ask.Channels, nil)
		return err == nil && len(answers) == 2
	})
	for _, sort := range []string{"-subscribers", "subscribers", "channel", "-channel", ""} {
		var got []channelRow
		cursor := ""
		for pages := 0; pages == 0 || cursor != ""; pages++ {
			var page list[channelRow]
			b.want(http.StatusOK, "GET", "api/channels?limit=13&sort="+sort+"&cursor="+cursor, nil).json(t, &page)
			if len(page.Rows) > 13 || pages > 60 {
				t.Fatalf("%s: got %+v", sort, page)
			}
			got, cursor = append(got, page.Rows...), page.Next
		}
		for i, row := range got {
			if row.Subscribers != want[row.Channel] {
				t.Errorf("%s: %s has %d, want %d", sort, row.Channel, row.Subscribers, want[row.Channel])
			}
			if i > 0 && (sort == "channel" && got[i-1].Channel >= row.Channel ||
				(sort == "-subscribers" || sort == "") && got[i-1].Subscribers < row.Subscribers) {
				t.Errorf("%s: not in order: %+v", sort, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: got %d rows, want %d", sort, len(got), len(want))
		}
	}
	var page list[addressRow]
	b.want(http.StatusOK, "GET", "api/addresses?q=c1&sort=-refused", nil).json(t, &page)
	if len(page.Rows) == 0 || page.Rows[0].Limit != 2000 {
		t.Errorf("addresses: got %+v", page)
	}
	for _, path := range []string{"channels?sort=refused", "addresses?sort=rate", "channels?sort=channel&cursor=x",
		"channels?cursor=x", "addresses?limit=-1"} {
		b.want(http.StatusBadRequest, "GET", "api/"+path, nil)
	}
}

func TestRefusals(t *testing.T) {
	c := start(t)
	at := time.Now().UTC()
	var rings [2]ask.RefusalRing
	for i, service := range []string{ask.Gateway, ask.Ingest} {
		c.serve(service, "x",
			map[string]ask.Answer{
				ask.Refusals: ask.Handle(
					func(_ context.Context, q ask.RefusalsQuestion) (ask.RefusalsAnswer, error) {
						return rings[i].Find(q)
					})})
	}
	for i := range 4 {
		rings[i%2].Add(ask.Refusal{Reason: []string{"origin", "unauthorized"}[i%2], Address: "203.0.113.7",
			Request: fmt.Sprint(i), Detail: "<script>alert(1)</script>"})
		time.Sleep(2 * time.Millisecond) // the rows' times differ by milliseconds
	}
	b := c.as(users.Viewer)
	var got struct {
		Rows   []ask.Refusal `json:"rows"`
		Silent []string      `json:"silent"`
	}
	b.want(http.StatusOK, "GET", "api/refusals", nil).json(t, &got)
	if len(got.Rows) != 4 || got.Rows[0].Request != "3" || got.Rows[3].Request != "0" ||
		got.Rows[0].Time.Before(at.Add(-time.Minute)) || got.Silent == nil {
		t.Errorf("got %+v", got)
	}
	b.want(http.StatusOK, "GET", "api/refusals?reason=origin&address=203.0.113.0/24", nil).json(t, &got)
	if len(got.Rows) != 2 {
		t.Errorf("by reason: got %+v", got)
	}
	b.want(http.StatusBadRequest, "GET", "api/refusals?address=here", nil)
}
