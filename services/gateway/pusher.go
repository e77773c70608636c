package gateway

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/internal/pusher"
)

const (
	// maxPusherFrames is how many events a Pusher client may send in one second: it
	// subscribes to each of its channels by one, and to all of them at once when it
	// comes back.
	maxPusherFrames = maxFollowed + maxFrames
	// leastActivity is the shortest activity_timeout, in seconds, that clients are told.
	leastActivity = 30
	// maxReason is how many bytes the reason in a close frame may have.
	maxReason = 123
)

// servePusher admits one client of the Pusher protocol: GET /app/{key}.
func (s *Service) servePusher(w http.ResponseWriter, r *http.Request) {
	if s.postpones(w, r) {
		return
	}
	page, ok := s.admitSocket(w, r)
	if !ok {
		return
	}
	remote := s.clientIP(r)
	s.wait(s.shares.pay(remote, costOf(r)), func() bool { return r.Context().Err() != nil })
	sess, protocol := s.newPusherSession(r, page)
	if s.acceptSocket(w, r, sess, remote, newSocketID()) {
		if sess.app != nil {
			sess.words = sess.app.words[protocol].of(&sess.conn)
			sess.app.add(sess, keyIn(r)) // Ended undoes it
		}
		sess.conn.Start(sess)
	}
}

// newPusherSession finds out who comes: the client of an app, or one that is refused.
// words is the index of its protocol in app.words.
func (s *Service) newPusherSession(r *http.Request, p page) (c *session, words int) {
	c = &session{s: s, asked: &request{channels: []string{}, judged: p.judged}, anonymous: true}
	c.who.Store(anybody)
	c.followed = c.first[:0]
	c.agent, c.page = s.answers.agents.number(r.UserAgent()), s.pages.number(p)
	q := r.URL.Query()
	code, err := pusher.CheckProtocol(q["protocol"])
	words = pusherWordsOf(r)
	key := keyIn(r)
	app := s.apps.known.ByKey(key, time.Now())
	switch c.asked.refused = crowded(r); {
	case c.asked.refused != nil:
		c.words = noApp[words].plain
		return c, words
	case !s.apps.loaded.Load():
		code, err = pusher.CodeCapacity, errors.New("the apps are not loaded yet; come back")
	case key == "" || strings.Contains(key, "/"):
		code, err = pusher.CodeNoPath, errors.New("want /app/KEY")
	case code != 0:
	case app == nil:
		code, err = pusher.CodeNoApp, errors.New("no app has this key; herald apps list shows those there are")
	}
	if code != 0 {
		refused := refusal{code: proto.CloseBadRequest, err: err}
		if code == pusher.CodeCapacity {
			refused.code = proto.CloseOverload
		}
		c.words, c.asked.refused = refusedWords(words, code, err), &refused
		return c, words
	}
	c.app = s.apps.of(app)
	c.words = c.app.words[words].plain
	c.who.Store(c.app.principal)
	return c, words
}

// keyIn is the key in the path of a client's URL.
func keyIn(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/app/") }

// newSocketID is the id of a connection: two numbers with a point between, as SDKs
// want it, which nobody can guess.
func newSocketID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return fmt.Sprintf("%d.%d", binary.BigEndian.Uint32(b[:4]), binary.BigEndian.Uint32(b[4:]))
}

// noApp are the words for clients that get no further than the goodbye.
var noApp = pusherWords(&pusher.App{}, compression{})

// pusherWords are the wordings of an app's clients: of protocol 5, and of 6 and 7,
// which get no error event before they are closed.
func pusherWords(a *pusher.App, z compression) [2]frames {
	encoding := hub.NewEncoding(slotPusher, func(m *hub.Message) []byte {
		if b, ok := a.Message(m.Channel, m.ID, m.Body); ok {
			return textFrame(b)
		}
		return nil
	})
	words := wording{
		frame: handlePusher, maxFrames: maxPusherFrames,
		message: encoding, single: encoding,
		control: func(frame any) []byte { return pusherControl(a, frame) },
		// It is sent before the messages, as pusher.Succeeded; a client of this protocol
		// has no place of its own otherwise.
		catchingUp: func(name string) []byte { return textFrame(pusher.Succeeded(nameIn(a, name), "")) },
		caughtUp: func(name string, none bool) []byte {
			if n := nameIn(a, name); none && isCache(n) {
				return textFrame(pusher.CacheMiss(n))
			}
			return nil
		},
		place: func(string) []byte { return nil },
	}
	words.welcome = func(f proto.Welcome, _ bool) []byte { return words.control(f) }
	five, seven := words, words
	five.format = &conn.Format{Name: "pusher", Heartbeat: textFrame(pusher.PingEvent),
		Goodbye: func(code proto.CloseCode) []byte {
			n, reason := pusherCode(code)
			return append(textFrame(pusher.Error(n, reason)), ws.EncodeClose(uint16(n), reason)...)
		}}
	seven.format = &conn.Format{Name: "pusher", Heartbeat: conn.WebSocket.Heartbeat,
		Goodbye: func(code proto.CloseCode) []byte {
			n, reason := pusherCode(code)
			return ws.EncodeClose(uint16(n), reason)
		}}
	return [2]frames{z.both(five, slotPusherDeflated), z.both(seven, slotPusherDeflated)}
}

// refusedWords are those of one client that is closed with this code.
func refusedWords(words, code int, reason error) *wording {
	w := *noApp[words].plain
	why := reason.Error()
	w.format = &conn.Format{Name: "pusher", Heartbeat: w.format.Heartbeat, Goodbye: func(proto.CloseCode) []byte {
		goodbye := ws.EncodeClose(uint16(code), why[:min(len(why), maxReason)])
		if words == 0 {
			goodbye = append(ws.Encode(ws.Text, pusher.Error(code, why)), goodbye...)
		}
		return goodbye
	}}
	return &w
}

func textFrame(b []byte) []byte { return ws.Encode(ws.Text, b) }

// nameIn is the Pusher name of a Herald channel of the app.
func nameIn(a *pusher.App, channel string) string {
	name, _ := a.ChannelName(channel)
	return name
}

func isCache(name string) bool {
	_, cache := pusher.KindOf(name)
	return cache
}

// pusherCode is the protocol's code for a reason to hang up. What broke RFC 6455
// keeps its registered code.
func pusherCode(code proto.CloseCode) (n int, reason string) {
	switch code {
	case proto.CloseGoingAway, proto.CloseRestart, proto.CloseSlowConsumer, proto.CloseReconnect:
		return pusher.CodeReconnect, code.String()
	case proto.CloseHeartbeat:
		return pusher.CodePong, code.String()
	case proto.CloseForbidden:
		return pusher.CodeNoApp, "the app was revoked, or its key has ended"
	case proto.CloseBadRequest, proto.CloseTokenInvalid, proto.CloseTokenExpired, proto.CloseKicked, proto.CloseOrigin:
		return pusher.CodeNotAllowed, code.String()
	case proto.CloseOverload, proto.CloseTooManyConnections, proto.CloseTooManyFrames, proto.CloseInternal:
		return pusher.CodeCapacity, code.String()
	}
	return int(code), code.String()
}

// pusherControl words a control frame. What the protocol has no word for is not sent:
// nil.
func pusherControl(a *pusher.App, frame any) []byte {
	switch f := frame.(type) {
	case proto.Welcome:
		return textFrame(pusher.Established(f.Connection, max(leastActivity, 2*f.Heartbeat)))
	case proto.Subscribed:
		return textFrame(pusher.Succeeded(nameIn(a, f.Channel), f.ID))
	case proto.Unsubscribed:
		return nil
	case proto.Gap:
		name := nameIn(a, f.Channel)
		f.Channel = name
		return textFrame(pusher.Missed(name, f))
	case proto.ErrorFrame:
		if f.Channel == "" {
			return nil // the goodbye says it
		}
		return refusedChannel(nameIn(a, f.Channel), 0, "LimitReached", f.Detail, http.StatusTooManyRequests)
	}
	panic(fmt.Sprintf("gateway: no Pusher event for %T", frame))
}

// refusedChannel tells a client that it does not follow a channel: the connection by
// the documented event, and the channel by the one that client libraries hand to it.
func refusedChannel(name string, code int, kind, why string, status int) []byte {
	return append(textFrame(pusher.Error(code, why)), textFrame(pusher.Refused(name, kind, why, status))...)
}

var pongFrame = textFrame(pusher.PongEvent)

// handlePusher handles one event of a client. What the client got wrong is told, and
// closes nothing: its other channels are fine.
func handlePusher(c *session, b []byte) {
	in, err := pusher.Parse(b)
	complain := func(code int, why string) { c.conn.Push(textFrame(pusher.Error(code, why))) }
	switch {
	case err != nil && in.Event == pusher.Subscribe && in.Name != "":
		c.conn.Push(refusedChannel(in.Name, 0, "BadRequest", err.Error(), http.StatusBadRequest))
	case err != nil:
		complain(0, err.Error())
	case in.Event == pusher.Ping:
		c.conn.Push(pongFrame)
	case in.Event == pusher.Pong: // whatever comes is a sign of life
	case in.Event == pusher.Subscribe:
		c.subscribePusher(in)
	case in.Event == pusher.Unsubscribe:
		if channel, err := c.channelOf(in.Name); err != nil {
			complain(0, err.Error())
		} else if c.follows(channel) {
			c.app.count(channel, -1)
			c.unsubscribe(channel, c.pushControl)
		}
	case strings.HasPrefix(in.Event, pusher.ClientPrefix):
		complain(pusher.CodeClientEvent,
			"client events are not supported by this server; send the event through your backend")
	case in.Event == pusher.Signin:
		complain(pusher.CodeNotAllowed, "user authentication (pusher:signin) is not supported by this server")
	default:
		complain(0, fmt.Sprintf("%.60q is no event that clients send", in.Event))
	}
}

func (c *session) channelOf(name string) (string, error) {
	return (&pusher.App{Prefix: c.app.prefix}).Channel(name)
}

// subscribePusher is pusher:subscribe.
func (c *session) subscribePusher(in pusher.Incoming) {
	refuse := func(code int, kind, why string, status int) {
		c.conn.Push(refusedChannel(in.Name, code, kind, why, status))
	}
	channel, err := c.channelOf(in.Name)
	if err != nil {
		refuse(0, "BadChannel", err.Error(), http.StatusBadRequest)
		return
	}
	kind, cache := pusher.KindOf(in.Name)
	switch kind {
	case pusher.Presence:
		refuse(pusher.CodeNotAllowed, "NotSupported", "presence channels are not supported by this server",
			http.StatusNotImplemented)
		return
	case pusher.Encrypted:
		refuse(pusher.CodeNotAllowed, "NotSupported", "encrypted channels are not supported by this server",
			http.StatusNotImplemented)
		return
	case pusher.Private:
		c.pay(tokenCost)
		app := c.app.known.ByID(c.app.id)
		if app == nil {
			err = pusher.ErrKey // it is being revoked
		} else {
			err = app.VerifyChannel(c.conn.ID(), in.Name, in.Auth, time.Now())
		}
		if err != nil {
			refuse(pusher.CodeNotAllowed, "AuthError", err.Error(), http.StatusUnauthorized)
			return
		}
	}
	since := in.Since
	if since == "" && cache {
		since = proto.SinceLast
	}
	if since != "" && since != proto.SinceAll && since != proto.SinceLast {
		if _, err := proto.ParseCursor(since); err != nil {
			refuse(0, "BadSince", err.Error(), http.StatusBadRequest)
			return
		}
	}
	if c.follows(channel) {
		c.conn.Push(textFrame(pusher.Succeeded(in.Name, "")))
		return
	}
	c.app.count(channel, 1) // before the client is told
	if c.subscribe(channel, since, c.pushControl); !c.follows(channel) {
		c.app.count(channel, -1)
	}
}
