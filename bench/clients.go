//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// order is a line on the standard input of a process of clients, and answer
// the line that it writes when that is done. At the end of the orders it ends.
type order struct {
	// Do is connect, count, reset or drop.
	Do string
	// Query is added to the path when connecting.
	Query string `json:",omitempty"`
}

type answer struct {
	Err   string `json:",omitempty"`
	Tally tally
}

// squad is what a process of clients is told to be.
type squad struct {
	first, n int    // numbers of its clients
	every    int    // each client whose number is a multiple of it is read
	addr     string // of the server
	path     string // {n} is the client's number, five digits
	hello    string // sent as a text frame after the handshake; {n} too
	tls      bool
	share    int // clients that come from one address
}

// shareOfPorts are enough clients for one address: 28,000 ports are there.
const shareOfPorts = 20_000

func (s *squad) flags(f *flag.FlagSet) {
	f.IntVar(&s.first, "first", 0, "number of the first client")
	f.IntVar(&s.n, "n", 1, "clients")
	f.IntVar(&s.every, "every", 1, "read what every so many-th gets, count what the others get")
	f.StringVar(&s.addr, "addr", "", "the server's IPv4 address and port")
	f.StringVar(&s.path, "path", "/ws", "what to ask for")
	f.StringVar(&s.hello, "hello", "", "text frame to send first")
	f.BoolVar(&s.tls, "tls", false, "over TLS; these clients only sit there")
	f.IntVar(&s.share, "share", shareOfPorts, "clients that come from one address")
}

// args are the flags that make this squad.
func (s *squad) args() []string {
	return []string{"clients", fmt.Sprintf("-first=%d", s.first), fmt.Sprintf("-n=%d", s.n), fmt.Sprintf("-every=%d", s.every),
		"-addr=" + s.addr, "-path=" + s.path, "-hello=" + s.hello, fmt.Sprintf("-tls=%t", s.tls), fmt.Sprintf("-share=%d", s.share)}
}

// numbered puts a client's number into a template.
func numbered(template string, n int) string {
	return strings.ReplaceAll(template, "{n}", fmt.Sprintf("%05d", n))
}

// request asks for the upgrade.
func (s *squad) request(number int, query string) []byte {
	return []byte("GET " + numbered(s.path, number) + query + " HTTP/1.1\r\nHost: " + s.addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
}

// clients is the role of a process that holds clients and obeys orders.
func clients(_ context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var s squad
	f := flag.NewFlagSet("clients", flag.ContinueOnError)
	s.flags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	obey, err := s.plain()
	if s.tls {
		obey, err = s.secure()
	}
	if err != nil {
		return err
	}
	in, out := json.NewDecoder(stdin), json.NewEncoder(stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		var a answer
		t, err := obey(o)
		if err != nil {
			a.Err = err.Error()
		}
		a.Tally = t
		if err := out.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func newTally() tally { return tally{LeastMessages: -1, LeastBytes: -1, Latency: new(histogram)} }

// plain holds its clients as bare sockets.
func (s *squad) plain() (obey func(order) (tally, error), err error) {
	addr, err := netip.ParseAddrPort(s.addr)
	if err != nil {
		return nil, fmt.Errorf("address of the server: %w", err)
	}
	read, err1 := newReader(0)
	counted, err2 := newReader(time.Millisecond)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	failed := make(chan error, 2) // never closed; a reader that cannot go on says why
	for _, r := range []*reader{read, counted} {
		go func() { failed <- r.run() }() // ends with the process
	}
	return func(o order) (tally, error) {
		t := newTally()
		select {
		case err := <-failed:
			return t, err
		default:
		}
		switch o.Do {
		case "connect":
			var waiting []*handshake
			for i := s.first; i < s.first+s.n; i++ {
				h := &handshake{client: &client{number: i, read: i%s.every == 0}, from: source(i / s.share), request: s.request(i, o.Query)}
				if s.hello != "" {
					h.hello = maskedFrame(opText, []byte(numbered(s.hello, i)))
				}
				waiting = append(waiting, h)
			}
			if err := storm(addr, waiting, func(c *client) error {
				if c.read {
					return read.add(c)
				}
				return counted.add(c)
			}); err != nil {
				return t, err
			}
		case "reset":
			read.reset()
			counted.reset()
		case "drop":
			read.drop()
			counted.drop()
		}
		read.count(&t)
		counted.count(&t)
		return t, nil
	}, nil
}
