//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

const centrifugeName = "centrifuge"

// onCentrifuge is a server on the library that Centrifugo is made of, with its
// defaults: subscriptions that the server makes when a client connects, no
// history, no delay of writes. Its publications go from NATS to the node, whose
// broker is in memory, as each of its processes would do with a broker outside.
type onCentrifuge struct {
	node *centrifuge.Node
	http.Handler
}

// connectData is what a client says in its connect command.
type connectData struct {
	Channel string `json:"channel"`
}

// centrifugeHello is the connect command for a channel.
func centrifugeHello(channel string) string {
	return fmt.Sprintf(`{"id":1,"connect":{"data":{"channel":%q}}}`, channel)
}

func newCentrifuge(ping time.Duration) (fanout, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return nil, err
	}
	pings := &centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
	if ping > 0 {
		pings = &centrifuge.PingPongConfig{PingInterval: ping, PongTimeout: ping * 3 / 4} // the library wants it to be less
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		var d connectData
		if err := json.Unmarshal(e.Data, &d); err != nil || d.Channel == "" {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectBadRequest
		}
		return centrifuge.ConnectReply{
			Credentials:    &centrifuge.Credentials{},
			Subscriptions:  map[string]centrifuge.SubscribeOptions{d.Channel: {}},
			PingPongConfig: pings,
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	return &onCentrifuge{node, centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})}, nil
}

func (c *onCentrifuge) publish(channel string, body []byte) {
	_, _ = c.node.Publish(channel, body) // a message that is lost is missed by the clients
}
