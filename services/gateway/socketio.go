package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
)

// socketClient is a session whose client speaks Socket.IO: a conn.Client, whose frames are
// Engine.IO packets. It is connected when the client has entered the main namespace,
// the only one that there is. In revision 3 of Engine.IO it does so by connecting, in
// revision 4 by a CONNECT packet, which may say who it is and what it wants to follow.
type socketClient struct {
	session
	version engineio.Version

	// Owned by whoever calls it as a conn.Client.
	form        socketio.Form
	came        *request // what its URL and header asked for, for who enters again; nil: nothing
	attachments int16    // binary messages that are still to come, and passed over
	pending     *pending // nil while it is connected: what is needed for that
}

// pending is what a client that is not connected to the namespace needs.
type pending struct {
	greeting []byte      // the first packet; nil: it was sent
	timer    *time.Timer // closes who does not connect; nil: it may wait
}

// connectWait is how long a client may stay outside of the namespace. Clients
// connect at once; the reference server waits 45 s.
const connectWait = 10 * time.Second

// refusedWait is connectWait for those over the limit of their address, which no count
// bounds.
const refusedWait = 2 * time.Second

// tooManyText is what the predecessor said to who had too many connections.
const tooManyText = "Too many connections from this IP!"

// Arrived, Frame and Ended make it a conn.Client.
func (c *socketClient) Arrived() {
	defer c.recovered()
	wait := connectWait
	if refused := c.countIn(); refused != nil {
		c.asked.refused, wait = refused, refusedWait
	}
	c.conn.Push(engineText(c.pending.greeting))
	c.pending.greeting = nil
	if c.version == engineio.V3 {
		c.connect(nil)
		return
	}
	c.pending.timer = time.AfterFunc(wait, func() { c.conn.Close(proto.CloseHeartbeat) }) // ends with connect or Ended
}

// Ended counts the client out.
func (c *socketClient) Ended() {
	c.stopWaiting()
	c.session.Ended()
}

func (c *socketClient) stopWaiting() {
	if c.pending != nil && c.pending.timer != nil {
		c.pending.timer.Stop()
	}
}

// Frame handles one Engine.IO packet.
func (c *socketClient) Frame(b []byte, binary bool) {
	defer c.recovered()
	if !c.admit(len(b)) {
		return
	}
	p, ok, err := c.version.Receive(&c.conn, b, binary)
	switch {
	case err != nil:
		c.broken(err)
	case ok && p.Binary:
		if c.attachments--; c.attachments < 0 {
			c.broken(fmt.Errorf("%w: a binary message that no packet has announced", socketio.ErrPacket))
		}
	case ok:
		c.packet(p.Data)
	case p.Type == engineio.Upgrade && c.pending == nil:
		// The WebSocket may have negotiated compression. Who is not connected yet gets no messages.
		c.join(hub.Now, hub.Now, nil, func(hub.Joined) {
			if c.words.deflating != nil && c.conn.Deflates() {
				c.words = c.words.deflating
			}
		})
	}
}

// wordsOf is the wording for this client, at the moment.
func (c *socketClient) wordsOf(f socketForms) *wording { return f[c.version][c.form].of(&c.conn) }

// broken closes the connection of a client that broke the protocol.
func (c *socketClient) broken(err error) {
	c.refuse(refusal{code: proto.CloseInvalidPayload, err: err})
}

// packet handles one Socket.IO packet.
func (c *socketClient) packet(b []byte) {
	p, err := socketio.Parse(b)
	if err == nil && c.attachments > 0 {
		err = fmt.Errorf("%w: %d binary messages should have come first", socketio.ErrPacket, c.attachments)
	}
	if err != nil {
		c.broken(err)
		return
	}
	namespace := p.Namespace
	if c.version == engineio.V3 { // a query may follow the name, and is not repeated in the answer
		namespace, _, _ = strings.Cut(namespace, "?")
	}
	switch {
	case p.Type == socketio.Connect && namespace != "/":
		c.conn.Push(messagePacket(c.refusedText(namespace, "Invalid namespace", nil)))
	case p.Type == socketio.Connect && c.pending != nil:
		c.connect(p.Data)
	case p.Type == socketio.Connect || namespace != "/" || c.pending != nil:
		c.broken(fmt.Errorf("%w: type %c is not expected now in namespace %.60q", socketio.ErrPacket, p.Type,
			namespace))
	case p.Type == socketio.Disconnect:
		c.exit()
	case p.Type == socketio.Event || p.Type == socketio.BinaryEvent && p.Attachments == 0:
		c.event(p)
	case p.Type == socketio.BinaryEvent:
		c.attachments = int16(p.Attachments)
		c.answer(p.ID, complaint("unsupported", "", errors.New("binary data is not taken from clients")))
	case p.Type == socketio.BinaryAck: // nothing asks for acknowledgements
		c.attachments = int16(p.Attachments)
	}
}

// refusedText words that the client is not let into a namespace.
func (c *socketClient) refusedText(namespace, text string, more any) []byte {
	if c.version == engineio.V3 {
		return socketio.RefusedV4(namespace, text)
	}
	return socketio.Refused(namespace, text, more)
}

// connect lets the client into the main namespace, with the subscriptions that it asks
// for, and what it missed. data is the payload of CONNECT.
func (c *socketClient) connect(data []byte) {
	c.stopWaiting()
	if r := c.asked.refused; r != nil && r.code == proto.CloseTooManyConnections {
		c.refusedSession(*r)
		c.conn.Push(append(messagePacket(c.connectedText("")),
			messagePacket(socketio.NewEvent(socketio.EventError,
				errorText{Data: tooManyText, Code: r.code.String()}))...))
		c.conn.Close(r.code)
		return
	}
	if c.asked.refused != nil {
		c.refuse(*c.asked.refused)
		return
	}
	pid, err := c.parseAuth(data)
	if err != nil {
		c.refuse(refusal{code: proto.CloseBadRequest, err: err})
		return
	}
	c.pay(nameCost * time.Duration(len(c.asked.channels)))
	if c.asked.token != "" {
		c.pay(tokenCost)
	}
	if r := c.check(); r != nil {
		c.refuse(*r)
		return
	}
	session := socketio.Session{Channels: c.asked.channels, Subject: c.principal().Name}
	signer := c.s.pids.Load()
	recovers := pid != "" && signer.Valid(pid, session, time.Now())
	if pid != "" && !recovers {
		c.asked.since = "" // the offset belongs to other subscriptions
	}
	c.words = c.wordsOf(c.s.socketIO.connecting)
	c.asked.greet = func(w proto.Welcome) []byte {
		c.words = c.wordsOf(c.s.socketIO.inside)
		if c.form < socketio.Recovering {
			return messagePacket(c.connectedText(""))
		}
		if !recovers || !w.Resumed {
			pid = signer.Sign(session, time.Now())
		}
		return append(messagePacket(c.connectedText(pid)), placeEvent(w.ID)...)
	}
	c.enter()
	c.asked, c.pending = nil, nil // an idle client holds no memory for them
}

func (c *socketClient) connectedText(pid string) []byte {
	if c.version == engineio.V3 {
		return []byte{socketio.Connect}
	}
	return socketio.Connected(c.conn.ID(), pid)
}

// parseAuth stores what a client says about itself in CONNECT, and returns the pid
// that it shows: of a session whose state it wants back. Its offset is then asked.since.
func (c *socketClient) parseAuth(data []byte) (pid string, err error) {
	if len(data) == 0 {
		return "", nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return "", fmt.Errorf("auth: %w", err)
	}
	text := func(name string, into *string) error {
		if json.Unmarshal(members[name], into) != nil {
			return fmt.Errorf("auth: %s is not a text", name)
		}
		return nil
	}
	names, _, err := takeNames(members)
	if err != nil {
		return "", fmt.Errorf("auth: %w", err)
	}
	if names != nil {
		c.asked.channels = names
	}
	var offset string
	for name, value := range members {
		switch name {
		case "token":
			err = text(name, &c.asked.token)
		case "since":
			err = text(name, &c.asked.since)
		case "pid":
			err = text(name, &pid)
		case "offset":
			err = text(name, &offset)
		case "details":
			var wanted bool
			if json.Unmarshal(value, &wanted) != nil {
				return "", errors.New("auth: details is neither true nor false")
			}
			c.form = socketio.Plain
			if wanted {
				c.form = socketio.Recovering
			}
		default:
			err = fmt.Errorf("auth: %.60q is not known; known are token, channels, since and details", name)
		}
		if err != nil {
			return "", err
		}
	}
	if len(c.asked.channels) > proto.MaxChannels {
		return "", fmt.Errorf("auth: %d channels, at most %d are allowed; subscribe events take more",
			len(c.asked.channels), proto.MaxChannels)
	}
	if pid == "" {
		return "", nil
	}
	c.form = socketio.Recovering // who shows a pid was given it
	if _, err := proto.ParseCursor(offset); err != nil {
		return "", nil // it followed other channels than it had asked for here: see unrecoverable
	}
	c.asked.since = offset
	return pid, nil
}

// exit ends the subscriptions of a client that disconnects from the namespace. The connection stays, and may connect
// again, as with the reference server.
func (c *socketClient) exit() {
	for _, name := range c.names() {
		c.unsubscribe(name, func(any) {})
	}
	c.settled()
	c.asked, c.pending = &request{channels: []string{proto.Broadcast}}, &pending{}
	if c.came != nil {
		*c.asked = *c.came
	}
}

// settled waits until the shard has done what it was asked for.
func (c *socketClient) settled() { c.join(hub.Now, hub.Now, nil, func(hub.Joined) {}) }

// event handles an event that a client emits.
func (c *socketClient) event(p socketio.Packet) {
	name, args, err := p.Event()
	if err != nil {
		c.broken(err)
		return
	}
	f, many, err := frameOf(name, args)
	if err != nil {
		c.answer(p.ID, complaint("bad-event", "", err))
		return
	}
	if f.Type == proto.FrameAuth {
		c.handle(f, func(frame any) { c.answer(p.ID, frame) })
		return
	}
	if c.changes(f) {
		c.unrecoverable()
	}
	results := []any{}
	for _, name := range f.Targets() {
		if c.conn.Reason() != 0 {
			return
		}
		c.handle(proto.ClientFrame{Type: f.Type, Channel: name, Since: f.Since},
			func(frame any) { results = append(results, resultOf(frame)) })
		c.settled()
	}
	switch {
	case len(results) < len(f.Targets()): // it is being closed
	case p.ID == socketio.NoID:
		for _, r := range results {
			if r, failed := r.(failure); failed {
				c.pushControl(proto.ErrorFrame{Code: r.Error, Detail: r.Detail, Channel: r.Channel})
			}
		}
	case many:
		c.conn.Push(messagePacket(socketio.NewAck(p.ID, results)))
	default:
		c.conn.Push(messagePacket(socketio.NewAck(p.ID, results[0])))
	}
}

// changes reports whether a frame may change what the client follows.
func (c *socketClient) changes(f proto.ClientFrame) bool {
	return slices.ContainsFunc(f.Targets(), func(name string) bool {
		if f.Type == proto.FrameUnsubscribe {
			return c.follows(name)
		}
		return !c.follows(name) && proto.CheckPattern(name) == nil && c.may(name)
	})
}

// answer answers one event: by an acknowledgement if the client asked for one, else only
// what went wrong, by an event.
func (c *socketClient) answer(id string, frame any) {
	if id != socketio.NoID {
		c.conn.Push(messagePacket(socketio.NewAck(id, resultOf(frame))))
	} else if f, failed := frame.(proto.ErrorFrame); failed {
		c.pushControl(f)
	}
}

// unrecoverable has a client whose subscriptions are no longer those of its pid come
// back without recovery, so that its page subscribes again.
func (c *socketClient) unrecoverable() {
	if c.form != socketio.Recovering {
		return
	}
	c.form = socketio.Detailed
	c.join(hub.Now, hub.Now, nil, func(hub.Joined) {
		if c.words.changed != nil {
			c.words.changed(&c.session)
		}
	})
}
