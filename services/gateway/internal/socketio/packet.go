// Package socketio words Herald's messages as Socket.IO packets, and parses those of
// clients: the Socket.IO protocol in revision 5 (JavaScript clients 3 and 4) and
// revision 4 (1 and 2), which differ only in what CONNECT and its refusal carry.
// Bytes in, bytes out; it knows no socket. A packet is what follows the 4 of an Engine.IO
// message.
package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Types of packets.
const (
	Connect      = '0'
	Disconnect   = '1'
	Event        = '2'
	Ack          = '3'
	ConnectError = '4'
	BinaryEvent  = '5'
	BinaryAck    = '6'
)

// ErrPacket is wrapped by every error of Parse. The receiver of such a packet closes
// the connection (protocol v5, "Sending and receiving data").
var ErrPacket = errors.New("invalid Socket.IO packet")

// NoID is the ID of a packet that asks for no acknowledgement.
const NoID = ""

// maxAttachments bounds what one packet announces: as many binary frames are waited for.
const maxAttachments = 1000

// Packet is one packet:
//
//	<type>[<attachments>-][<namespace>,][<id>][JSON]
type Packet struct {
	Type        byte
	Attachments int    // of BinaryEvent and BinaryAck: binary messages that follow
	Namespace   string // with its query, which revision 4 knows; "/" is the main one
	ID          string // digits without leading zeroes; NoID: none
	Data        []byte // JSON: of Event and Ack an array, of Connect an object; empty: none
}

// Parse decodes a packet that a client may send. Data is part of b.
func Parse(b []byte) (Packet, error) {
	p := Packet{Namespace: "/", ID: NoID}
	fault := func(format string, args ...any) (Packet, error) {
		return p, fmt.Errorf("%w: "+format, append([]any{ErrPacket}, args...)...)
	}
	if len(b) == 0 || b[0] < Connect || b[0] > BinaryAck {
		return fault("a type from 0 to 6 comes first")
	}
	p.Type, b = b[0], b[1:]
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		digits, _, ok := bytes.Cut(b[:min(len(b), 8)], []byte{'-'})
		n, err := strconv.ParseUint(string(digits), 10, 16)
		if !ok || err != nil || n > maxAttachments {
			return fault("the number of attachments, at most %d, and - follow the type", maxAttachments)
		}
		p.Attachments, b = int(n), b[len(digits)+1:]
	}
	if len(b) > 0 && b[0] == '/' {
		namespace, rest, _ := bytes.Cut(b, []byte{','})
		p.Namespace, b = string(namespace), rest
	}
	digits := 0
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		// The protocol sets it no limit, and all that is done with it is to repeat it.
		id := bytes.TrimLeft(b[:digits-1], "0")
		p.ID, b = string(id)+string(b[digits-1:digits]), b[digits:]
	}
	p.Data = b
	if len(b) > 0 && !json.Valid(b) {
		return fault("what follows the type is no JSON")
	}
	first, size := byte(0), len(b)
	if size > 0 {
		first = bytes.TrimLeft(b, " \t\r\n")[0]
	}
	switch p.Type {
	case Connect:
		if size > 0 && first != '{' {
			return fault("the data of CONNECT is an object")
		}
	case Disconnect:
		if size > 0 {
			return fault("DISCONNECT has no data")
		}
	case Event, BinaryEvent:
		if _, _, err := p.Event(); err != nil {
			return p, err
		}
	case Ack, BinaryAck:
		if first != '[' {
			return fault("the data of an acknowledgement is an array")
		}
	case ConnectError:
		return fault("CONNECT_ERROR comes from servers only")
	}
	return p, nil
}

// Event is the name and the arguments of an event. Clients may send numbers as names, and an
// empty one.
func (p Packet) Event() (name string, args []json.RawMessage, err error) {
	var all []json.RawMessage
	if err := json.Unmarshal(p.Data, &all); err != nil || len(all) == 0 {
		return "", nil, fmt.Errorf("%w: the data of an event is an array that begins with its name", ErrPacket)
	}
	var number json.Number
	switch kind := all[0][0]; {
	case kind == '"' && json.Unmarshal(all[0], &name) == nil && !Reserved(name):
		return name, all[1:], nil
	case (kind == '-' || kind >= '0' && kind <= '9') && json.Unmarshal(all[0], &number) == nil:
		return number.String(), all[1:], nil
	}
	return "", nil, fmt.Errorf("%w: an event's name is a text that Socket.IO does not use itself", ErrPacket)
}

// reserved are the names of events that clients make themselves. A packet with one
// of them breaks the connection of JavaScript clients (socket.io-parser).
var reserved = map[string]bool{
	"connect": true, "connect_error": true, "disconnect": true, "disconnecting": true,
	"newListener": true, "removeListener": true,
}

// Reserved reports whether Socket.IO uses an event's name itself.
func Reserved(event string) bool { return reserved[event] }

// Append appends the packet to b. Namespace may be empty for the main one.
func (p Packet) Append(b []byte) []byte {
	b = append(b, p.Type)
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		b = append(strconv.AppendInt(b, int64(p.Attachments), 10), '-')
	}
	if p.Namespace != "" && p.Namespace != "/" {
		b = append(append(b, p.Namespace...), ',')
	}
	return append(append(b, p.ID...), p.Data...)
}
