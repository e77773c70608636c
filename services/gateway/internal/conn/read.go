package conn

import (
	"io"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Client is whom a connection belongs to: it is called when the client has come, for
// each of its messages, and when it is gone. The methods are called one at a time and
// may block.
type Client interface {
	// Arrived is the first call.
	Arrived()
	// Frame is given one whole message: UTF-8 or, if the Format accepts it, binary. The
	// memory is the callee's. It is not called any more once the connection is closing.
	Frame(b []byte, binary bool)
	// Ended is the last call. Conn.Reason says why.
	Ended()
}

// incoming is the half of a Conn that reads.
type incoming struct {
	decoder  ws.Decoder
	handling bool // a goroutine calls the Client, and will look at inbox again
	// the poller does not read: inbox is full, or readsAtOnce reads were made; the handling goroutine goes on
	paused     bool
	small      int32        // control frames and fragments that came within the second
	second     uint32       // of Set.now
	inboxBytes int32        // bytes in inbox, each message counted with messageCost
	inbox      []ws.Message // messages for the Client; with opcode Close: the answer to a close frame
	pongs      []byte       // the answers to the pings in what is being decoded
}

// maxInbox is from how many bytes of messages for a busy Client on the socket is not
// read from, so that the kernel makes the sender wait.
const maxInbox = 4 * proto.MaxFrameBytes

// messageCost is what a message costs in memory beyond its bytes: without it empty
// messages would be free.
const messageCost = 64

// readsAtOnce bounds how often one client is read from before the others' turn.
const readsAtOnce = 16

// readBuffer is how many bytes a blocking reader reads at a time. Clients send little.
const readBuffer = 512

// Start has the client's methods called from now on, in goroutines of the Conn, and
// returns. It must be called once. Set.Wait waits for Ended.
func (c *Conn) Start(client Client) {
	c.client = client
	if c.polled {
		go func() { // counted by reserve; ends when there is nothing to handle
			c.watch() // first: Arrived may wait until the client has read something
			c.client.Arrived()
			c.handle()
		}()
		return
	}
	go func() { // counted by reserve; ends with the connection
		// Arrived has a goroutine of its own, whose stack is freed: this one waits for
		// the client for hours, and would keep a stack of that size.
		c.notReading.Store(true)
		arrived := make(chan struct{})
		go func() { defer close(arrived); c.client.Arrived() }()
		<-arrived
		c.notReading.Store(false)
		c.readBlocking()
		c.finish()
	}()
}

// handle calls the Client for each message in inbox, until there is none.
func (c *Conn) handle() {
	for {
		c.mu.Lock()
		if c.phase == closed {
			c.mu.Unlock()
			c.finish()
			return
		}
		if c.phase >= closeQueued {
			c.inbox, c.inboxBytes = nil, 0
		}
		if len(c.inbox) == 0 {
			if c.paused {
				c.paused = false
				c.notReading.Store(false)
				c.readOn()
				c.mu.Unlock()
				continue
			}
			c.inbox, c.handling = nil, false
			c.mu.Unlock()
			return
		}
		m := c.inbox[0]
		c.inbox[0] = ws.Message{}
		c.inbox = c.inbox[1:]
		c.inboxBytes -= int32(len(m.Payload) + messageCost)
		c.mu.Unlock()
		c.handleOne(m)
	}
}

// handleOne gives the Client one message. Only now is the message inflated and
// checked to be UTF-8 (RFC 6455 section 8.1): so what waits in inbox needs no more
// memory than what was sent, and a message that inflates to a thousand times its size
// holds up neither a poller nor c.mu.
func (c *Conn) handleOne(m ws.Message) {
	if m.Op == ws.Close {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answerClose(m.Payload)
		return
	}
	b := m.Payload
	if m.Compressed {
		var code proto.CloseCode
		if b, code = ws.Inflate(b, c.format.maxMessageBytes()); code != 0 {
			c.Close(code)
			return
		}
	}
	if m.Op == ws.Text && !utf8.Valid(b) {
		c.Close(proto.CloseInvalidPayload)
		return
	}
	c.client.Frame(b, m.Op == ws.Binary)
}

// received decodes what came from the socket. b is changed.
func (c *Conn) received(b []byte) {
	c.lastIn.Store(c.set.now())
	if c.phase.discards() {
		return
	}
	c.decoder.Inflates = c.deflates.Load() // a socket may have gone over to a WebSocket
	code := c.decoder.Decode(b, c.receivedFrame)
	c.pong()
	if code != 0 {
		c.decoder = ws.Decoder{}
		c.close(code)
		if c.phase == closeQueued || c.phase == closeSent {
			c.phase = errorQueued
		}
	}
	c.settle()
}

// pong answers all pings that came at once, in one write. It comes before the goodbye:
// otherwise it would depend on how the network cuts what the client sends whether a
// ping before a close frame is answered.
func (c *Conn) pong() {
	b := c.pongs
	c.pongs = nil
	c.push(b)
}

// receivedFrame handles one frame. more is false after the client's close frame.
func (c *Conn) receivedFrame(f ws.Frame) (more bool, code proto.CloseCode) {
	if c.tooMany(f) {
		return false, proto.CloseTooManyFrames
	}
	switch {
	case f.Op == ws.Ping:
		c.pongs = ws.AppendFrame(c.pongs, ws.Pong, f.Payload)
	case f.Op == ws.Pong:
	case f.Op == ws.Close:
		return false, c.receivedClose(f.Payload)
	case f.Op == ws.Binary && !c.format.Binary:
		c.pong()
		c.close(proto.CloseUnsupported)
		c.decoder.Skip(f)
	case c.phase >= closeQueued:
		c.decoder.Skip(f)
	default:
		if m, whole := c.decoder.Message(f); whole {
			c.addToInbox(m)
			if c.polled && !c.handling {
				c.handling = true
				go c.handle() // counted by reserve; ends when there is nothing to handle
			}
		}
	}
	return c.phase != closed, 0
}

// tooMany counts a frame of which the Client is not informed: nothing else bounds how
// many of them a client sends.
func (c *Conn) tooMany(f ws.Frame) bool {
	most := c.set.cfg.MaxSmallFrames
	if most == 0 || f.Op == ws.Close || f.Fin && f.Op != ws.Ping && f.Op != ws.Pong {
		return false
	}
	if second := uint32(c.lastIn.Load() / int64(time.Second)); second != c.second {
		c.second, c.small = second, 0
	}
	c.small++
	return int(c.small) > most
}

// receivedClose handles the client's close frame. Messages that came before it are
// handled first, and the answer to it comes last.
func (c *Conn) receivedClose(payload []byte) proto.CloseCode {
	code, ok := ws.CloseCode(payload)
	if !ok {
		return proto.CloseProtocolError
	}
	switch answer := ws.EncodeClose(code, ""); {
	case c.phase >= closeQueued:
		c.phase = lastQueued
	case c.handling || len(c.inbox) > 0:
		c.phase = closeReceived
		c.addToInbox(ws.Message{Op: ws.Close, Payload: answer})
		c.unblock() // SendWait does not wait for who has said goodbye
	default:
		c.answerClose(answer)
	}
	return 0
}

func (c *Conn) addToInbox(m ws.Message) {
	c.inbox = append(c.inbox, m)
	c.inboxBytes += int32(len(m.Payload) + messageCost)
}

// inputEnded is called when nothing more comes from the client. What is queued still
// goes out, if a goodbye is among it or follows.
func (c *Conn) inputEnded() {
	switch c.phase {
	case open:
		c.kill()
	case closeQueued, closeSent, errorQueued, halfClosed:
		c.phase = lastQueued
		c.settle()
	}
}

// watch has a poller report what comes.
func (c *Conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed {
		return
	}
	readable, err := c.socket.(socket.Polled).Watch((*owner)(c))
	switch {
	case err != nil:
		c.kill()
	case readable:
		c.readOn()
	}
}

// owner is a Conn as a poller knows it.
type owner Conn

// Ready makes *owner a socket.Owner.
func (o *owner) Ready(e socket.Event, scratch []byte) {
	c := (*Conn)(o)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Writable && c.full && c.phase != closed {
		c.full = false
		if c.flush(); !c.full {
			c.disarm()
		}
		c.settle()
	}
	if e.Readable && !c.paused && c.phase != closed {
		c.readAll(scratch, e.Ending)
	}
}

// readOn reads what has come while the socket was not read from.
func (c *Conn) readOn() {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	c.readAll((*buf)[:cap(*buf)], true)
}

// readAll reads until there is nothing more, inbox is full, or readsAtOnce reads were made; after the latter two
// reading is paused. A read that finds less than it asks for means that there is nothing more, unless the end of the
// input may stand right behind it (toEnd).
func (c *Conn) readAll(buf []byte, toEnd bool) {
	s := c.socket.(socket.Polled)
	for range readsAtOnce {
		if c.inboxBytes >= maxInbox {
			break
		}
		n, err := s.Read(buf)
		if n > 0 {
			c.received(buf[:n])
		}
		switch {
		case c.phase == closed || err == socket.ErrNothing && (n == 0 || !toEnd):
			return
		case err == socket.ErrNothing || err == nil:
		default:
			c.inputEnded()
			return
		}
	}
	c.paused = true
	c.notReading.Store(true)
	if !c.handling {
		c.handling = true
		go c.handle() // counted by reserve; reads on when the Client has handled what there is
	}
}

// readBlocking reads from a blocking socket, and calls the Client, until the
// connection is over.
func (c *Conn) readBlocking() {
	s := c.socket.(socket.Blocking)
	buf := make([]byte, readBuffer)
	for {
		n, err := s.Read(buf)
		c.mu.Lock()
		if n > 0 && c.phase != closed {
			c.received(buf[:n])
		}
		if err != nil && c.phase >= closeQueued && c.phase != closed {
			c.phase = lastQueued // the goodbye still goes out
		}
		inbox, last := c.inbox, c.phase.discards()
		c.inbox, c.inboxBytes = nil, 0
		c.mu.Unlock()
		c.notReading.Store(true)
		for _, m := range inbox {
			if c.Reason() != 0 {
				break
			}
			c.handleOne(m)
		}
		c.notReading.Store(false)
		if last && c.flushed() {
			c.linger(s)
		}
		if err != nil || last {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill()
}

// linger does for a blocking socket what settle does for a polled one, when the
// goodbye is written: CloseWrite, and wait for the end of the input.
func (c *Conn) linger(s socket.Blocking) {
	if s.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	if c.phase == errorQueued {
		c.phase = halfClosed
	}
	wait := c.phase == halfClosed
	c.mu.Unlock()
	if wait {
		_, _ = io.Copy(io.Discard, s) // ends with CloseWait at the latest
	}
}
