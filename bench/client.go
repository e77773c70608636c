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
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

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
	TLS        bool // such clients only stay connected
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
	fd       int  // of the bare socket
	parses   bool // it parses what it receives; else bytes are counted only
	rest     []byte
	bytes    int64 // since the last reset
	messages int64 // of one that parses
	dead     bool
}

// clients are those of this process. Its exported methods are called by bench, one at a time.
type clients struct {
	group
	parsing, counting *reader
	failed            chan error // a reader that cannot go on says why; never closed
	secure            []net.Conn
}

// serveClients is the role of a process of clients.
func serveClients(job string, stdin io.Reader, stdout io.Writer) error {
	s := &clients{failed: make(chan error, 2)}
	err := json.Unmarshal([]byte(job), &s.group)
	var err1, err2 error
	s.parsing, err1 = newReader(s, 0)
	s.counting, err2 = newReader(s, time.Millisecond)
	calls := rpc.NewServer()
	if err := errors.Join(err, err1, err2, calls.RegisterName("clients", s)); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	for _, r := range []*reader{s.parsing, s.counting} {
		go func() { s.failed <- r.run() }() // ends with the process
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
	workers, errs := inFlight, make([]error, inFlight)
	if s.TLS {
		workers = inFlightTLS
	}
	var next atomic.Int64
	var mu sync.Mutex // guards s.secure
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			in := bufio.NewReaderSize(nil, 16<<10)
			for i := int(next.Add(1)) - 1; i < s.N && errs[w] == nil; i = int(next.Add(1)) - 1 {
				number := s.First + i
				c := &client{parses: number%s.Every == 0}
				conn, err := s.connect(c, number, query, in)
				switch {
				case err != nil:
					errs[w] = fmt.Errorf("client %d: %w", number, err)
				case s.TLS:
					mu.Lock()
					s.secure = append(s.secure, conn)
					mu.Unlock()
				case c.parses:
					errs[w] = s.parsing.add(c)
				default:
					errs[w] = s.counting.add(c)
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.Count("", t)
}

// Count adds up what the clients received since the last reset.
func (s *clients) Count(_ string, t *Tally) error {
	*t = newTally()
	t.Connected = len(s.secure)
	s.parsing.count(t)
	s.counting.count(t)
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// Reset begins to count anew.
func (s *clients) Reset(_ string, t *Tally) error {
	s.parsing.reset()
	s.counting.reset()
	return s.Count("", t)
}

// Drop ends all connections at once by a reset, as when a network fails;
// that also leaves no port behind in TIME_WAIT.
func (s *clients) Drop(_ string, t *Tally) error {
	s.parsing.drop()
	s.counting.drop()
	for _, c := range s.secure {
		_ = c.Close() // it may be closed by the server
	}
	s.secure = nil
	return s.Count("", t)
}

// connect returns when the client is subscribed. Over TCP, the client is then a bare socket and the connection closed.
func (s *clients) connect(c *client, number int, query string, in *bufio.Reader) (net.Conn, error) {
	from := source(number / s.PerAddress)
	d := net.Dialer{Timeout: handshakeTimeout, LocalAddr: &net.TCPAddr{IP: from[:]}}
	d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		// The port is chosen when the server's address is known, so each server has all of them.
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) })
		return errors.Join(err, e)
	}
	plain, err := d.Dial("tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	conn := plain
	if s.TLS {
		conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true}) // the certificate is one that this run made
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout)) // of an open connection it cannot fail
	in.Reset(conn)
	if err := s.handshake(c, conn, number, query, in); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	if s.TLS {
		return conn, nil
	}
	c.fd, err = detach(plain.(*net.TCPConn))
	return nil, errors.Join(err, plain.Close())
}

func (s *clients) handshake(c *client, conn io.Writer, number int, query string, in *bufio.Reader) error {
	channel := strings.ReplaceAll(s.Channel, "{n}", fmt.Sprintf("%05d", number/s.Share))
	_, name, _ := strings.Cut(channel, ".")
	fill := strings.NewReplacer("{channel}", channel, "{name}", name)
	if _, err := io.WriteString(conn, "GET "+fill.Replace(s.Path)+query+" HTTP/1.1\r\nHost: "+s.Addr+"\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		return fmt.Errorf("ask for the upgrade: %w", err)
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // for the error alone
		return fmt.Errorf("handshake: got %s, want 101: %s", resp.Status, said)
	}
	if s.Hello != "" {
		if _, err := conn.Write(maskedFrame(opText, fill.Replace(s.Hello))); err != nil {
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
			c.messages += int64(eachStamp(payload, func(int64) {}))
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

// sources is how many there are, up to 127.255.255.254.
const sources = 0x7ffffffe - 0x7f010001 + 1

// reader empties the sockets of many clients: one thread, one epoll, no
// memory per client. Bytes that are counted only are never copied out of the
// kernel (MSG_TRUNC), and the thread rests a millisecond after each round, so that
// it takes little CPU from the server that is measured. Clients that parse
// have a reader of their own, which does not rest, as it measures their latency.
type reader struct {
	epoll      int
	ping, pong string // of the dialect
	rest       time.Duration
	buf        []byte

	mu      sync.Mutex
	clients map[int]*client // by descriptor
	tally   Tally           // of those that parse
}

func newReader(s *clients, rest time.Duration) (*reader, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &reader{epoll: fd, ping: s.Ping, pong: s.Pong, rest: rest, buf: make([]byte, 64<<10),
		clients: map[int]*client{}, tally: newTally()}, err
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
func (r *reader) run() error {
	events := make([]unix.EpollEvent, 4096)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
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
			c.frames(r.buf[:n], func(opcode byte, payload []byte) { r.frame(c, opcode, payload) })
		}
		if int(n) < len(r.buf) {
			return
		}
	}
}

// frame counts a frame, and answers pings.
func (r *reader) frame(c *client, opcode byte, payload []byte) {
	now := time.Now().UnixNano()
	n := eachStamp(payload, func(ns int64) { r.tally.Latency.add(time.Duration(now - ns)) })
	c.messages += int64(n)
	r.tally.Messages += int64(n)
	answer := []byte(nil)
	switch {
	case opcode == opPing:
		answer = maskedFrame(opPong, string(payload))
	case n == 0 && r.ping != "" && strings.HasPrefix(string(payload), r.ping):
		answer = maskedFrame(opText, r.pong)
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

// count adds what this reader's clients received.
func (r *reader) count(t *Tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := Tally{Messages: r.tally.Messages, Pings: r.tally.Pings, Latency: r.tally.Latency, LeastMessages: -1, LeastBytes: -1}
	for _, c := range r.clients {
		switch {
		case c.dead:
			sum.Dead++
			continue
		case !c.parses:
			sum.least(Tally{LeastMessages: -1, LeastBytes: c.bytes})
		default:
			sum.least(Tally{LeastMessages: c.messages, ParsedBytes: c.bytes, LeastBytes: -1})
		}
		sum.Connected++
	}
	t.add(sum)
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
