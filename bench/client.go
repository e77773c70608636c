//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/rpc"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/gobwas/ws"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// group is the job of a process of clients.
type group struct {
	dialect
	Channel    string // that they follow; {n} in it is the client's number, five digits, divided by Share
	Share      int
	First, N   int // numbers of its clients
	Addr       string
	TLS        bool // they only stay connected then
	PerAddress int  // clients with the same source address
}

// portsOfAnAddress are enough clients for one source address: 28,000 ports are there.
const portsOfAnAddress = 20_000

// The clients of a process whose handshakes are under way at a time: what a server sees when all come at once, but its
// queue of connections does not overflow. The work of a TLS handshake is mostly the client's.
const inFlight, inFlightTLS = 256, 8

// handshakeTimeout bounds the handshake of a client.
const handshakeTimeout = 90 * time.Second

// client is one WebSocket connection. Its fields are guarded by mu of clients once it is there.
type client struct {
	fd       int
	rest     []byte // the begin of a frame whose end has not come yet
	messages int64  // since the last reset
	dead     bool
}

// clients are those of this process: one thread empties their sockets, with one epoll and no memory for each. It rests
// after each round, so that it takes little CPU from the server that is measured. Its exported methods are called by
// bench, one at a time.
type clients struct {
	group
	epoll int
	buf   []byte

	mu    sync.Mutex
	all   map[int]*client // by descriptor
	tally Tally           // messages, pings and latency
}

const rest = 200 * time.Microsecond

// serveClients is the role of a process of clients.
func serveClients(job string, stdin io.Reader, stdout io.Writer) (err error) {
	s := &clients{buf: make([]byte, 64<<10), all: map[int]*client{}, tally: newTally()}
	calls := rpc.NewServer()
	s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err := errors.Join(err, json.Unmarshal([]byte(job), &s.group), calls.RegisterName("clients", s)); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	go s.read() // ends with the process
	calls.ServeConn(struct {
		io.Reader
		io.Writer
		io.Closer
	}{stdin, stdout, io.NopCloser(nil)})
	return nil
}

// Connect connects all clients, with query added to their path.
func (s *clients) Connect(query string, t *Tally) error {
	var all errgroup.Group
	all.SetLimit(inFlight)
	if s.TLS {
		all.SetLimit(inFlightTLS)
	}
	for number := s.First; number < s.First+s.N; number++ {
		all.Go(func() error {
			if err := s.connect(number, query); err != nil {
				return fmt.Errorf("client %d: %w", number, err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return s.Count("", t)
}

// Count is what the clients received since the last reset.
func (s *clients) Count(_ string, t *Tally) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	*t = newTally()
	t.add(s.tally)
	for _, c := range s.all {
		if c.dead {
			t.Dead++
			continue
		}
		t.Connected++
		t.Least = min(t.Least, c.messages)
	}
	return nil
}

// Reset begins to count anew.
func (s *clients) Reset(_ string, t *Tally) error {
	s.mu.Lock()
	s.tally = newTally()
	for _, c := range s.all {
		c.messages = 0
	}
	s.mu.Unlock()
	return s.Count("", t)
}

// Drop ends all connections at once by a reset, as when a network fails; that also leaves no port behind in TIME_WAIT.
func (s *clients) Drop(_ string, t *Tally) error {
	s.mu.Lock()
	for fd := range s.all {
		// Without a reset the port waits for a minute.
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
	}
	clear(s.all)
	s.mu.Unlock()
	return s.Count("", t)
}

// connect returns when the client is subscribed. It is then a bare socket, also where it spoke TLS.
func (s *clients) connect(number int, query string) error {
	channel := strings.ReplaceAll(s.Channel, "{n}", fmt.Sprintf("%05d", number/s.Share))
	_, name, _ := strings.Cut(channel, ".")
	fill := strings.NewReplacer("{channel}", channel, "{name}", name)
	from := source(number / s.PerAddress)
	plain := net.Dialer{LocalAddr: &net.TCPAddr{IP: from[:]}}
	plain.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		// The port is chosen when the server's address is known, so each server has all of them.
		const late = unix.IP_BIND_ADDRESS_NO_PORT
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, late, 1) })
		return errors.Join(err, e)
	}
	var socket net.Conn                                                                         // below TLS
	d := ws.Dialer{Timeout: handshakeTimeout, TLSConfig: &tls.Config{InsecureSkipVerify: true}} // the run's certificate
	d.NetDial = func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
		socket, err = plain.DialContext(ctx, network, addr)
		return socket, err
	}
	scheme := map[bool]string{false: "ws://", true: "wss://"}[s.TLS]
	conn, early, _, err := d.Dial(context.Background(), scheme+s.Addr+fill.Replace(s.Path)+query)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	defer func() { _ = socket.Close() }() // the copy of the descriptor stays
	c := &client{}
	if err := s.subscribe(c, conn, early, fill.Replace(s.Hello)); err != nil {
		return err
	}
	if c.fd, err = detach(socket.(*net.TCPConn)); err != nil {
		return err
	}
	const edge = uint32(1) << 31 // EPOLLET
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[c.fd] = c
	event := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | edge, Fd: int32(c.fd)}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, c.fd, event)
}

// subscribe says hello, and reads frames until one says that the client is subscribed and none is buffered: from then
// on the socket is read without a buffer. early has what came with the handshake; nil: nothing came.
func (s *clients) subscribe(c *client, conn net.Conn, early *bufio.Reader, hello string) error {
	if early == nil {
		early = bufio.NewReader(conn)
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout)) // of an open connection it cannot fail
	if hello != "" {
		if _, err := conn.Write(masked(ws.NewTextFrame([]byte(hello)))); err != nil {
			return fmt.Errorf("say hello: %w", err)
		}
	}
	for ready := false; !ready || early.Buffered() > 0; {
		h, err := ws.ReadHeader(early)
		payload := make([]byte, h.Length) // servers of this run are not hostile
		if err == nil {
			_, err = io.ReadFull(early, payload)
		}
		if err != nil {
			return fmt.Errorf("wait for %s: %w", s.Ready, err)
		}
		c.messages += eachStamp(payload, func(int64) {})
		ready = ready || bytes.Contains(payload, []byte(s.Ready))
	}
	return nil
}

// masked is a client's frame; its mask is of zeros.
func masked(f ws.Frame) []byte { return ws.MustCompileFrame(ws.MaskFrameWith(f, [4]byte{})) }

// source is the n-th source address of clients: 127.1.0.1 and so on.
func source(n int) (a [4]byte) {
	binary.BigEndian.PutUint32(a[:], 0x7f010001+uint32(n))
	return a
}

// read reads for as long as the process lives.
func (s *clients) read() {
	events := make([]unix.EpollEvent, 4096)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			panic(err) // this process has no other use for its epoll
		}
		s.mu.Lock()
		for _, e := range events[:max(0, n)] {
			if c := s.all[int(e.Fd)]; c != nil {
				s.empty(c)
			}
		}
		s.mu.Unlock()
		time.Sleep(rest)
	}
}

func (s *clients) empty(c *client) {
	for !c.dead {
		// Raw, as unix.Recvfrom allocates an address for each call.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd),
			uintptr(unsafe.Pointer(&s.buf[0])), uintptr(len(s.buf)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			c.dead = true
			return
		case !s.TLS:
			c.frames(s.buf[:n], func(op ws.OpCode, payload []byte) { s.count(c, op, payload) })
		}
		if int(n) < len(s.buf) {
			return
		}
	}
}

// frames calls do with each frame that p completes. The payload is valid during the call.
func (c *client) frames(p []byte, do func(op ws.OpCode, payload []byte)) {
	if len(c.rest) > 0 {
		p = append(c.rest, p...)
	}
	for {
		in := bytes.NewReader(p)
		h, err := ws.ReadHeader(in)
		if err != nil || h.Length > int64(in.Len()) {
			c.rest = append([]byte(nil), p...) // nil if p is empty
			return
		}
		p = p[len(p)-in.Len():]
		do(h.OpCode, p[:h.Length])
		p = p[h.Length:]
	}
}

// count counts a frame, and answers pings.
func (s *clients) count(c *client, op ws.OpCode, payload []byte) {
	now := time.Now().UnixNano()
	n := eachStamp(payload, func(ns int64) { s.tally.Latency.add(time.Duration(now - ns)) })
	c.messages += n
	s.tally.Messages += n
	if n > 0 {
		s.tally.Frame = int64(len(payload))
	}
	answer := ws.NewTextFrame([]byte(s.Pong))
	switch {
	case op == ws.OpPing:
		answer = ws.NewPongFrame(payload)
	case n > 0 || s.Ping == "" || !bytes.HasPrefix(payload, []byte(s.Ping)):
		return
	}
	s.tally.Pings++
	_, _ = unix.Write(c.fd, masked(answer)) // the buffer of a client that is alive has room
}

// stampKey stands before the publisher's time, nanoseconds since 1970, in each message; where data is a text within
// JSON, as Pusher's clients get it, with a backslash. Counting it counts messages also where a server puts several into
// one frame.
var stampKey = []byte(`"ts`)

// eachStamp calls do with each stamp and returns how many there are.
func eachStamp(b []byte, do func(ns int64)) (n int64) {
	for i := bytes.Index(b, stampKey); i >= 0; i = bytes.Index(b, stampKey) {
		b = bytes.TrimLeft(b[i+len(stampKey):], `\":`)
		var ns int64
		for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
			ns, b = ns*10+int64(b[0]-'0'), b[1:]
		}
		do(ns)
		n++
	}
	return n
}

// Tally is what clients received since the last reset.
type Tally struct {
	Connected, Dead int   // now; closed by the server
	Messages, Least int64 // received by all clients, and by the one that received least
	Frame           int64 // size of the last frame with a message
	Pings           int64
	Latency         *histogram // from publisher to socket
}

// newTally is that of no client; the least of none is more than any client's.
func newTally() Tally { return Tally{Least: math.MaxInt64, Latency: new(histogram)} }

func (t *Tally) add(o Tally) {
	t.Connected, t.Dead = t.Connected+o.Connected, t.Dead+o.Dead
	t.Messages, t.Pings = t.Messages+o.Messages, t.Pings+o.Pings
	t.Least, t.Frame = min(t.Least, o.Least), max(t.Frame, o.Frame)
	for i, n := range o.Latency {
		t.Latency[i] += n
	}
}

// histogram counts latencies in 16 steps per octave, so a percentile is right to some 4 %.
type histogram [16 * 40]int64

func (h *histogram) add(d time.Duration) {
	us := float64(max(0, d) / time.Microsecond)
	h[min(len(h)-1, int(16*math.Log2(us+1)))]++
}

// percentile is the upper edge of the step that holds it, in seconds; p is between 0 and 1. Of nothing it is 0.
func (h *histogram) percentile(p float64) float64 {
	var total, seen int64
	for _, n := range h {
		total += n
	}
	for i, n := range h {
		if seen += n; n > 0 && float64(seen) >= p*float64(total) {
			return (math.Exp2(float64(i+1)/16) - 1) / 1e6
		}
	}
	return 0
}
