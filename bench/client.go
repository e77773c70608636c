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

// client is one WebSocket connection. Its fields are guarded by mu of clients once it is there.
type client struct {
	fd       int
	rest     []byte // the begin of a frame whose end has not come yet
	messages int64  // since the last reset
	dead     bool
}

// clients are those of this process: one thread empties their sockets, with one epoll and no memory for each. It
// rests after each round, so that it takes little CPU from the server that is measured.
// Its exported methods are called by bench, one at a time.
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

// Drop ends all connections at once by a reset, as when a network fails;
// that also leaves no port behind in TIME_WAIT.
func (s *clients) Drop(_ string, t *Tally) error {
	s.mu.Lock()
	for fd := range s.all {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // else the port waits a minute
		_ = unix.Close(fd)
	}
	clear(s.all)
	s.mu.Unlock()
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
	c := &client{}
	if err := s.handshake(c, conn, number, query); err != nil {
		return err
	}
	if c.fd, err = detach(plain.(*net.TCPConn)); err != nil {
		return err
	}
	const edge = uint32(1) << 31 // EPOLLET
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[c.fd] = c
	event := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | edge, Fd: int32(c.fd)}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, c.fd, event)
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
			c.frames(s.buf[:n], func(opcode byte, payload []byte) { s.take(c, opcode, payload) })
		}
		if int(n) < len(s.buf) {
			return
		}
	}
}

// take counts a frame, and answers pings.
func (s *clients) take(c *client, opcode byte, payload []byte) {
	now := time.Now().UnixNano()
	n := eachStamp(payload, func(ns int64) { s.tally.Latency.add(time.Duration(now - ns)) })
	c.messages += n
	s.tally.Messages += n
	if n > 0 {
		s.tally.Frame = int64(len(payload))
	}
	var answer []byte
	switch {
	case opcode == opPing:
		answer = frame(opPong, true, payload)
	case n == 0 && s.Ping != "" && bytes.HasPrefix(payload, []byte(s.Ping)):
		answer = frame(opText, true, []byte(s.Pong))
	default:
		return
	}
	s.tally.Pings++
	_, _ = unix.Write(c.fd, answer) // the buffer of a client that is alive has room
}
