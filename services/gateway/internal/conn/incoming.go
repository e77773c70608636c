package conn

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
)

// Client is whom a connection belongs to. Its methods are called one at a
// time: Arrived, then Frame for each text message until the connection is
// closing, then Ended. They may block;
// a connection that has nothing to tell its client has no goroutine.
type Client interface {
	// Arrived is the first call.
	Arrived()
	// Frame is given UTF-8, in memory of its own.
	Frame(b []byte)
	// Ended is the last call. Reason says why.
	Ended()
}

// BinaryClient is a Client that takes binary messages, too. Others' connections
// are closed with CloseUnsupported when one comes.
type BinaryClient interface {
	Client
	// Binary is Frame for a binary message.
	Binary(b []byte)
}

// incoming is the half of a Conn that reads.
type incoming struct {
	parser  parser
	deaf    bool        // what still comes is thrown away
	over    bool        // the client has said goodbye
	half    bool        // closeWrite was called
	working bool        // a goroutine calls the client, and will look at inbox again
	inbox   []inMessage // messages for the client
	waiting int         // bytes in inbox, each message counted with its cost
	pongs   []byte      // the answers to what is being taken in
	paused  bool        // there is more to read than inbox takes
	parting bool        // the client's goodbye stands last in inbox, or is being answered
}

// inMessage is a whole message as the client sent it, or its goodbye.
type inMessage struct {
	bytes      []byte
	binary     bool
	compressed bool
	goodbye    bool // bytes is the answer
}

// maxInbox is from how many bytes of messages on, waiting for a client that is
// busy with one, reading pauses, and the kernel makes the sender wait.
const maxInbox = 4 * proto.MaxFrameBytes

// messageCost is what a message takes in memory beyond its bytes: else empty
// ones would be free.
const messageCost = 64

// Start calls the client's methods from now on, in goroutines of its own, and
// returns. It must be called once. Wait waits for Ended.
func (c *Conn) Start(client Client) {
	c.client = client
	if c.poller != nil {
		go func() { // counted by reserve; ends when there is nothing to do
			c.poller.watch(c) // first: Arrived may wait until the client has read
			c.client.Arrived()
			c.work()
		}()
		return
	}
	go func() { // counted by reserve; ends with the connection
		// Arrived has a goroutine of its own, whose stack is freed: this one,
		// which waits for the client for hours, would keep the size of it.
		c.busy.Store(true)
		arrived := make(chan struct{})
		go func() { defer close(arrived); c.client.Arrived() }()
		<-arrived
		c.busy.Store(false)
		c.read()
		c.finish()
	}()
}

// work calls the client until nothing waits for it.
func (c *Conn) work() {
	for {
		c.mu.Lock()
		if c.dead {
			c.mu.Unlock()
			c.finish()
			return
		}
		if c.closing { // what is said after a goodbye is not heard
			c.inbox, c.waiting = nil, 0
		}
		if len(c.inbox) == 0 {
			if c.paused {
				c.paused = false
				c.busy.Store(false)
				c.poller.readable(c)
				c.mu.Unlock()
				continue
			}
			c.inbox, c.working = nil, false
			c.mu.Unlock()
			return
		}
		m := c.inbox[0]
		c.inbox[0] = inMessage{}
		c.inbox = c.inbox[1:]
		c.waiting -= len(m.bytes) + messageCost
		c.mu.Unlock()
		c.hand(m)
	}
}

// hand gives the client one message. Only now, when its turn has come, is it
// inflated, and is it looked at whether text is UTF-8 (RFC 6455 section 8.1):
// what waits takes no more memory than what was sent, and neither a poller nor
// c.mu is held up by a message that inflates to thousands of times its size.
func (c *Conn) hand(m inMessage) {
	if m.goodbye {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.part(m.bytes)
		return
	}
	b := m.bytes
	if m.compressed {
		var code proto.CloseCode
		if b, code = inflate(b); code != 0 {
			c.Close(code)
			return
		}
	}
	switch {
	case m.binary:
		c.client.(BinaryClient).Binary(b)
	case !utf8.Valid(b):
		c.Close(proto.CloseInvalidPayload)
	default:
		c.client.Frame(b)
	}
}

// received takes in what came from the socket. b is changed.
func (c *Conn) received(b []byte) {
	c.lastIn.Store(time.Now().UnixNano())
	if c.deaf {
		return
	}
	code := c.parser.take(b, c.handle)
	c.pong()
	if code != 0 {
		c.deaf = true
		c.parser = parser{}
		c.close(code)
	}
	c.settle()
}

// pong answers all pings that came at once, in one write. It comes before a
// goodbye, which would else depend on how the network cut what the client sent.
func (c *Conn) pong() {
	b := c.pongs
	c.pongs = nil
	c.push(b)
}

// handle takes in one frame. goOn is false after the client's goodbye.
func (c *Conn) handle(f inFrame) (goOn bool, code proto.CloseCode) {
	switch f.op {
	case opPing & opMask:
		c.pongs = appendFrame(c.pongs, opPong, f.payload)
	case opPong & opMask:
	case opClose & opMask:
		code, ok := goodbyeCode(f.payload)
		if !ok {
			return false, proto.CloseProtocolError
		}
		c.deaf, c.over = true, true
		switch answer := echo(code); {
		case c.closing:
		case c.working || len(c.inbox) > 0: // what it said before is heard first
			c.parting = true
			c.inbox = append(c.inbox, inMessage{bytes: answer, goodbye: true})
			c.waiting += len(answer) + messageCost
			c.release()
		default:
			c.part(answer)
		}
		return false, 0
	case opBinary:
		if _, takes := c.client.(BinaryClient); !takes {
			c.pong()
			c.close(proto.CloseUnsupported)
			c.parser.skip(f)
			break
		}
		fallthrough
	default:
		if c.closing { // what is said after our goodbye is not heard
			c.parser.skip(f)
			break
		}
		message, whole := c.parser.text(f)
		if !whole {
			break
		}
		c.inbox = append(c.inbox, inMessage{bytes: message, binary: c.parser.binary, compressed: c.parser.compressed})
		c.waiting += len(message) + messageCost
		if c.poller != nil && !c.working {
			c.working = true
			go c.work() // counted by reserve; ends when nothing waits for the client
		}
	}
	return !c.dead, 0
}

// part answers the client's goodbye, unless we have said ours meanwhile.
func (c *Conn) part(answer []byte) {
	if c.closing || c.dead {
		return
	}
	c.pong()
	c.setCode(proto.CloseNormal)
	c.leave(answer)
}

// settle ends a connection whose goodbye is out, as far as that can be done
// without blocking: at once if the client has said goodbye, or cannot; else
// when it does, or hangs up, or closeWait is over. A client that broke the
// protocol may still be sending, and closing a socket with unread input sends
// a reset, which would take the goodbye with it (RFC 1122 section 4.2.2.13).
func (c *Conn) settle() {
	if c.dead || !c.closing || c.unsent() || c.poller == nil {
		return
	}
	switch {
	case c.over:
		c.kill()
	case c.deaf && !c.half:
		c.half = true
		if c.wire.closeWrite() != nil {
			c.kill()
		}
	}
}

// echo answers a client's goodbye with its own code, if it had one (RFC 6455
// section 5.5.1).
func echo(code uint16) []byte {
	if code == 0 {
		return frame(opClose, nil)
	}
	return frame(opClose, binary.BigEndian.AppendUint16(nil, code))
}
