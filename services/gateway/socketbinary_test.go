package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Binary data arrives as an attachment, in each revision's own way, live and from the past.
func TestSocketIOBinary(t *testing.T) {
	b := newBroker(t)
	g, other := b.socketio(), b.socketio()
	const data, packet = `"data:application/octet-stream;base64,AQID"`,
		`451-["message",{"data":{"_placeholder":true,"num":0}}]`
	attachment := func(s *sock, want string) {
		s.t.Helper()
		_ = s.ws.SetReadDeadline(time.Now().Add(patience))
		kind, got, err := s.ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage || string(got) != want {
			s.t.Errorf("got a message of kind %d, %q, %v; want the bytes %q", kind, got, err, want)
		}
	}
	four, _ := g.io("", nil)
	three := g.session(3, "", nil)
	three.want("40")
	polls := g.poller(4, "")
	polls.send("40")
	polls.get("40{")
	polls3, polls3b := g.poller(3, "&b64=1"), g.poller(3, "")
	polls3.get("2:40")
	polls3b.get("2:40")
	relayed := g.poller(4, "")
	relayed.send("40")
	relayed.get("40{")
	elsewhere := relayed.at(g, other).probe()
	elsewhere.send("2probe")
	elsewhere.want("3probe")
	elsewhere.send("5")

	g.reached(b.publish("broadcast", data))
	b.publish("broadcast", `"text"`)
	const text = `42["message",{"data":"text"}]`
	for _, s := range []*sock{four, elsewhere} {
		s.want(packet)
		attachment(s, "\x01\x02\x03")
		s.want(text)
	}
	three.want(packet)
	attachment(three, "\x04\x01\x02\x03")
	three.want(text)
	polls.get(packet + "\x1ebAQID")
	polls3.get("54:" + packet + "6:b4AQID")
	r := polls3b.do(http.MethodGet, "")
	if want := "\x00\x05\x04\xff" + packet + "\x01\x04\xff\x04\x01\x02\x03"; r.kind != "application/octet-stream" ||
		r.body[:min(len(r.body), len(want))] != want {
		t.Errorf("a payload of bytes: got %+v", r)
	}

	missed := g.session(4, "", nil)
	missed.send(`40{"since":"all"}`)
	missed.want(packet)
	attachment(missed, "\x01\x02\x03")
	missed.want(text)

	native, _ := g.connect("since=all")
	if m := native.next(); string(m.Data) != data {
		t.Errorf("a client of /ws got %s, want the text", m.Data)
	}
}
