package admin

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// The path of a message has what the stream, and each service, knows of it, and says what nobody knows.
func TestMessagePath(t *testing.T) {
	c := start(t)
	b := c.as(users.Viewer)
	id := c.store("orders.eu", "paid", "shop", `{"n":9007199254740993.10}`)
	var got messagePath
	natstest.Eventually(t, 30*time.Second, "it is told",
		func() bool { return b.call("GET", "api/messages/"+id, nil).status == http.StatusOK })
	text := b.want(http.StatusOK, "GET", "api/messages/"+id, nil)
	text.json(t, &got)
	if got.ID != id || got.Channel != "orders.eu" || got.Event != "paid" || got.Sender != "shop" || got.Bytes != 25 ||
		!strings.Contains(text.body, `"data":{"n":9007199254740993.10}`) ||
		got.Stored == nil || got.Stored.Sequence != 1 || got.Stored.PackIndex != 0 || got.Accepted == nil ||
		got.Accepted.Address != "192.0.2.1" || got.Accepted.Ingest != "" || got.Expired || got.Log != nil {
		t.Errorf("without services: got %s", text.body)
	}
	if all := strings.Join(got.Unknown, "\n"); !strings.Contains(all, "Which ingest") ||
		!strings.Contains(all, "no logger runs") {
		t.Errorf("unknown: %s", all)
	}
	since := time.Now().UTC()
	var logged atomic.Pointer[ask.LoggerPath]
	logged.Store(&ask.LoggerPath{Row: true, Time: "2026-11-28T16:58:36.123Z"})
	c.serve(ask.Gateway, "g1",
		map[string]ask.Answer{ask.MessagePath: ask.Handle(
			func(context.Context, ask.PathQuestion) (ask.GatewayPath, error) {
				return ask.GatewayPath{Known: true, Since: &since, Followers: 5, Clients: 4, Sent: 2,
					Queued: 1, Dropped: 1, Slowest: 1.5}, nil
			})})
	c.serve(ask.Gateway, "g2",
		map[string]ask.Answer{ask.MessagePath: ask.Handle(
			func(context.Context, ask.PathQuestion) (ask.GatewayPath, error) {
				return ask.GatewayPath{Since: &since, Followers: 1}, nil
			})})
	c.serve(ask.Ingest, "i1", map[string]ask.Answer{
		ask.Stats: ask.Handle(func(context.Context, struct{}) (ask.IngestStats,
			error) {
			return ask.IngestStats{Lane: "L-"}, nil
		}),
		ask.MessagePath: ask.Handle(func(context.Context, ask.PathQuestion) (ask.IngestPath, error) {
			return ask.IngestPath{Known: true, Request: "r1", Address: "192.0.2.1"}, nil
		}),
	})
	c.serve(ask.Logger, "l1",
		map[string]ask.Answer{ask.MessagePath: ask.Handle(
			func(context.Context, ask.PathQuestion) (ask.LoggerPath, error) {
				return *logged.Load(), nil
			})})
	natstest.Eventually(t, 30*time.Second, "all are asked", func() bool {
		got = messagePath{}
		b.want(http.StatusOK, "GET", "api/messages/"+id, nil).json(t, &got)
		return len(got.Gateways) == 2 && got.Accepted.Ingest == "i1" && got.Accepted.Request == "r1" &&
			got.Log != nil && got.Log.Row
	})
	if g := got.Gateways[0]; !g.Known || g.Clients != 4 || g.Queued != 1 || g.Dropped != 1 || g.Slowest == nil ||
		*g.Slowest != 1.5 || got.Gateways[1].Known || got.Gateways[1].Slowest != nil {
		t.Errorf("gateways: got %+v", got.Gateways)
	}
	if len(got.Unknown) != 1 || !strings.Contains(got.Unknown[0], "gateway g2") {
		t.Errorf("unknown: %q", got.Unknown)
	}
	epoch, _, _ := strings.Cut(id, "-")
	strange := map[string]string{epoch + "-1025": "no such message", epoch + "-99999999": "ends before it",
		"zzzz-1024": "no such epoch", epoch + "-0": "numbers of messages are larger"}
	for path, why := range strange { // the log has rows of streams that were there before
		if a := b.want(http.StatusOK, "GET", "api/messages/"+path, nil); !strings.Contains(a.body, why) ||
			!strings.Contains(a.body, `"row":true`) || !strings.Contains(a.body, `"stored":null`) {
			t.Errorf("%s, in the log: got %s", path, a.body)
		}
	}
	b.want(http.StatusBadRequest, "GET", "api/messages/x", nil)
	logged.Store(&ask.LoggerPath{Later: true})
	for path, why := range strange {
		if a := b.want(http.StatusNotFound, "GET", "api/messages/"+path, nil); !strings.Contains(a.body, why) ||
			!strings.Contains(a.body, "the log has no row of it") {
			t.Errorf("%s: got %s", path, a.body)
		}
	}
	for _, c := range []struct {
		logged ask.LoggerPath
		want   string
	}{{ask.LoggerPath{Later: true}, "retention"}, {ask.LoggerPath{}, "Ask again"}} {
		logged.Store(&c.logged)
		if a := b.want(http.StatusOK, "GET", "api/messages/"+id, nil); !strings.Contains(a.body, c.want) {
			t.Errorf("%+v: got %s", c.logged, a.body)
		}
	}
	logged.Store(&ask.LoggerPath{Row: true})
	stream, err := c.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	c.store("orders.eu", "paid", "shop", `1`)
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	got = messagePath{}
	b.want(http.StatusOK, "GET", "api/messages/"+id, nil).json(t, &got)
	if !got.Expired || got.Stored != nil || got.Log == nil || !got.Log.Row ||
		!strings.Contains(strings.Join(got.Unknown, "\n"), "no longer") {
		t.Errorf("expired: got %+v", got)
	}
}
