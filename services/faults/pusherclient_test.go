package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pusherApp has the channels of the suite: public.c1 is its c1.
var pusherApp = pusher.App{ID: "1", Name: "faults", Prefix: "public", Keys: []pusher.Key{pusher.NewKey(time.Now())}}

// addApp makes the app known, from now on and after every restart.
func (s *system) addApp() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, err := nats.Connect(s.natsURL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := keystore.MakeApps(ctx, js, len(s.brokers))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := store.Add(ctx, pusherApp); err != nil {
		s.t.Fatal(err)
	}
}

// channelsClient is a stream over the Pusher protocol, of one channel: each has a place of its own there. It says
// since, as PROTOCOL.md allows to who may change a line of the client.
type channelsClient struct {
	ws             *websocket.Conn
	channel, since string
	patient        time.Duration
}

func dialPusher(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialPusherBuffered(ctx, gateway, query, 0)
}

// dialSlowPusher is for clients that stop reading.
func dialSlowPusher(ctx context.Context, gateway string, query url.Values) (stream, error) {
	return dialPusherBuffered(ctx, gateway, query, receiveBytes)
}

func dialPusherBuffered(ctx context.Context, gateway string, query url.Values, buffer int) (stream, error) {
	d := dialerOf(buffer)
	ws, _, err := d.DialContext(ctx, "ws://"+gateway+"/app/"+pusherApp.Keys[0].Key+"?protocol=7", nil)
	if err != nil {
		return nil, err
	}
	name, ok := pusherApp.ChannelName(query.Get("channel"))
	if !ok || len(query["channel"]) != 1 {
		return nil, fmt.Errorf("%q is not one channel of the app", query["channel"])
	}
	c := &channelsClient{ws: ws, channel: name, since: query.Get("since"), patient: time.Minute}
	ws.SetPingHandler(func(data string) error {
		c.extend()
		return ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(dialTimeout))
	})
	return c, nil
}

// fails on a closed socket, as the next read does
func (c *channelsClient) extend() { _ = c.ws.SetReadDeadline(time.Now().Add(c.patient)) }

func (c *channelsClient) next() ([]byte, error) {
	for {
		c.extend()
		var f struct {
			Event, ID string
			Data      json.RawMessage
		}
		if err := c.ws.ReadJSON(&f); err != nil {
			return nil, err
		}
		data := []byte(f.Data)
		var text string
		if json.Unmarshal(data, &text) == nil { // data is a text, most often of JSON
			data = []byte(text)
		}
		var frame any
		switch {
		case f.Event == "pusher:connection_established":
			subscribe := map[string]string{"channel": c.channel}
			if c.since != "" {
				subscribe["since"] = c.since
			}
			if err := c.ws.WriteJSON(map[string]any{"event": "pusher:subscribe", "data": subscribe}); err != nil {
				return nil, err
			}
			continue
		case f.Event == "pusher_internal:subscription_succeeded":
			var place struct{ ID string }
			if err := json.Unmarshal(data, &place); err != nil {
				return nil, err
			}
			if c.since != "" {
				place.ID = c.since // what was missed follows
			}
			frame = map[string]any{"type": proto.FrameWelcome, "heartbeat": 0, "id": place.ID}
		case f.Event == "herald:gap":
			return data, nil
		case f.Event == "pusher:pong":
			continue
		case strings.HasPrefix(f.Event, "pusher"):
			return nil, fmt.Errorf("%w: %s %s", closeError(proto.CloseProtocolError), f.Event, data)
		default:
			frame = map[string]any{"id": f.ID, "channel": c.channel, "data": json.RawMessage(data)}
		}
		return json.Marshal(frame)
	}
}

func (c *channelsClient) send(any) error { return errUnsupported }

// heartbeat is what a welcome says; this protocol's has none.
func (c *channelsClient) heartbeat(int) {}

func (c *channelsClient) close() { _ = c.ws.UnderlyingConn().Close() } // no goodbye: the network is gone
