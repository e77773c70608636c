//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// group is the job of a process of clients.
type group struct {
	dialect
	Channel    string // that they follow; {n} in it is the client's number, five digits, divided by Share
	Share      int
	First, N   int // numbers of its clients
	Every      int // a client whose number is a multiple of it parses what it receives
	Addr       string
	TLS        bool // they only stay connected then
	PerAddress int  // clients with the same source address
}

// portsOfAnAddress are enough clients for one source address: 28,000 ports are there.
const portsOfAnAddress = 20_000

// The clients of a process whose handshakes are under way at a time: what a server
// sees when all come at once, but its queue of connections does not overflow. The work of a TLS
// handshake is mostly the client's.
const inFlight, inFlightTLS = 256, 8

// handshakeTimeout bounds the handshake of a client.
const handshakeTimeout = 90 * time.Second

// client is one WebSocket connection. Its fields are guarded by its reader's mu once it has one.
type client struct {
	fd       int
	parses   bool   // what it receives; else bytes are counted only
	rest     []byte // the begin of a frame whose end has not come yet
	bytes    int64  // since the last reset
	messages int64  // of one that parses
	dead     bool
}

// clients are those of this process. Its exported methods are called by bench, one at a time.
type clients struct {
	group
	readers [2]*reader // of clients that count bytes, and of those that parse
}

// serveClients is the role of a process of clients.
func serveClients(job string, stdin io.Reader, stdout io.Writer) error {
	s, calls := &clients{}, rpc.NewServer()
	if err := errors.Join(json.Unmarshal([]byte(job), &s.group), calls.RegisterName("clients", s)); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	for i, rest := range []time.Duration{time.Millisecond, 0} {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return fmt.Errorf("clients: %w", err)
		}
		s.readers[i] = &reader{epoll: fd, dialect: s.dialect, rest: rest, buf: make([]byte, 64<<10), clients: map[int]*client{}, tally: newTally()}
		go s.readers[i].run() // ends with the process
	}
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

// Count adds up what the clients received since the last reset.
func (s *clients) Count(_ string, t *Tally) error {
	*t = newTally()
	for _, r := range s.readers {
		t.add(r.count())
	}
	return nil
}

// Reset begins to count anew.
func (s *clients) Reset(_ string, t *Tally) error {
	for _, r := range s.readers {
		r.reset()
	}
	return s.Count("", t)
}

// Drop ends all connections at once by a reset, as when a network fails;
// that also leaves no port behind in TIME_WAIT.
func (s *clients) Drop(_ string, t *Tally) error {
	for _, r := range s.readers {
		r.drop()
	}
	return s.Count("", t)
}

// connect returns when the client is subscribed. It is then a bare socket, also where it spoke TLS.
func (s *clients) connect(number int, query string) error {
	from := source(number / s.PerAddress)
	d := net.Dialer{Timeout: handshakeTimeout, LocalAddr: &net.TCPAddr{IP: from[:]}}
	d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		// The port is chosen when the server's address is known, so each server has all of them.
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) })
		return errors.Join(err, e)
	}
	plain, err := d.Dial("tcp", s.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }() // the copy of the descriptor stays
	conn := plain
	if s.TLS {
		conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true}) // the certificate is one that this run made
	}
	c := &client{parses: number%s.Every == 0 && !s.TLS}
	if err := s.handshake(c, conn, number, query); err != nil {
		return err
	}
	if c.fd, err = detach(plain.(*net.TCPConn)); err != nil {
		return err
	}
	if c.parses {
		return s.readers[1].add(c)
	}
	return s.readers[0].add(c)
}

func (s *clients) handshake(c *client, conn net.Conn, number int, query string) error {
	channel := strings.ReplaceAll(s.Channel, "{n}", fmt.Sprintf("%05d", number/s.Share))
	_, name, _ := strings.Cut(channel, ".")
	fill := strings.NewReplacer("{channel}", channel, "{name}", name)
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout)) // of an open connection it cannot fail
	if _, err := io.WriteString(conn, "GET "+fill.Replace(s.Path)+query+" HTTP/1.1\r\nHost: "+s.Addr+"\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		return fmt.Errorf("ask for the upgrade: %w", err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // for the error alone
		return fmt.Errorf("handshake: got %s, want 101: %s", resp.Status, said)
	}
	if s.Hello != "" {
		if _, err := conn.Write(frame(opText, true, []byte(fill.Replace(s.Hello)))); err != nil {
			return fmt.Errorf("say hello: %w", err)
		}
	}
	for ready := false; !ready; {
		if _, err := in.Peek(1); err != nil {
			return fmt.Errorf("wait for %s: %w after %q", s.Ready, err, c.rest)
		}
		p, _ := in.Peek(in.Buffered()) // as much as there is
		c.bytes += int64(len(p))
		c.frames(p, func(_ byte, payload []byte) {
			c.messages += eachStamp(payload, func(int64) {})
			ready = ready || bytes.Contains(payload, []byte(s.Ready))
		})
		_, _ = in.Discard(len(p))
	}
	return nil
}

// source is the n-th source address of clients: 127.1.0.1 and so on.
func source(n int) (a [4]byte) {
	binary.BigEndian.PutUint32(a[:], 0x7f010001+uint32(n))
	return a
}

// reader empties the sockets of many clients: one thread, one epoll, no
// memory per client. Bytes that are counted only are never copied out of the
// kernel (MSG_TRUNC), and the thread rests a millisecond after each round, so that
// it takes little CPU from the server that is measured. Clients that parse
// have a reader of their own, which does not rest, as it measures their latency.
type reader struct {
	dialect
	epoll int
	rest  time.Duration
	buf   []byte

	mu      sync.Mutex
	clients map[int]*client // by descriptor
	tally   Tally           // of those that parse
}

func (r *reader) add(c *client) error {
	const edge = uint32(1) << 31 // EPOLLET
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[c.fd] = c
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | edge, Fd: int32(c.fd)}
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, c.fd, &event)
}

// run reads for as long as the process lives.
func (r *reader) run() {
	events := make([]unix.EpollEvent, 4096)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			panic(err) // this process has no other use for its epoll
		}
		r.mu.Lock()
		for _, e := range events[:max(0, n)] {
			if c := r.clients[int(e.Fd)]; c != nil {
				r.empty(c)
			}
		}
		r.mu.Unlock()
		time.Sleep(r.rest)
	}
}

func (r *reader) empty(c *client) {
	flags := unix.MSG_DONTWAIT
	if !c.parses {
		flags |= unix.MSG_TRUNC
	}
	for !c.dead {
		// Raw, as unix.Recvfrom allocates an address for each call.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd),
			uintptr(unsafe.Pointer(&r.buf[0])), uintptr(len(r.buf)), uintptr(flags), 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			c.dead = true
			return
		}
		c.bytes += int64(n)
		if c.parses {
			c.frames(r.buf[:n], func(opcode byte, payload []byte) { r.receive(c, opcode, payload) })
		}
		if int(n) < len(r.buf) {
			return
		}
	}
}

// receive counts a frame, and answers pings.
func (r *reader) receive(c *client, opcode byte, payload []byte) {
	now := time.Now().UnixNano()
	n := eachStamp(payload, func(ns int64) { r.tally.Latency.add(time.Duration(now - ns)) })
	c.messages += n
	r.tally.Messages += n
	var answer []byte
	switch {
	case opcode == opPing:
		answer = frame(opPong, true, payload)
	case n == 0 && r.Ping != "" && bytes.HasPrefix(payload, []byte(r.Ping)):
		answer = frame(opText, true, []byte(r.Pong))
	default:
		return
	}
	r.tally.Pings++
	_, _ = unix.Write(c.fd, answer) // the buffer of a client that is alive has room
}

func (r *reader) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally = newTally()
	for _, c := range r.clients {
		c.bytes, c.messages = 0, 0
	}
}

// count is what this reader's clients received.
func (r *reader) count() Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := newTally()
	sum.add(r.tally)
	for _, c := range r.clients {
		switch {
		case c.dead:
			sum.Dead++
		case c.parses:
			sum.add(Tally{Connected: 1, LeastMessages: c.messages, ParsedBytes: c.bytes, LeastBytes: none})
		default:
			sum.add(Tally{Connected: 1, LeastMessages: none, LeastBytes: c.bytes})
		}
	}
	return sum
}

func (r *reader) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for fd := range r.clients {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // else the port waits a minute
		_ = unix.Close(fd)
	}
	clear(r.clients)
}
