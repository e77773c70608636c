//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// secure holds its clients as connections of crypto/tls that only sit there: what
// they are for is the memory of the other side.
func (s *squad) secure() (obey func(order) (tally, error), err error) {
	var conns []net.Conn
	return func(o order) (tally, error) {
		t := newTally()
		var err error
		switch o.Do {
		case "connect":
			conns, err = s.dialAll(o.Query)
		case "drop":
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			conns = nil
		}
		t.Connected = len(conns)
		return t, err
	}, nil
}

// handshakes is how many TLS clients shake hands at a time.
const handshakes = 8

func (s *squad) dialAll(query string) ([]net.Conn, error) {
	conns, errs := make([]net.Conn, s.n), make([]error, s.n)
	var wg sync.WaitGroup
	for worker := range handshakes {
		wg.Go(func() {
			for i := worker; i < s.n; i += handshakes {
				conns[i], errs[i] = s.dialTLS(s.first+i, query)
			}
		})
	}
	wg.Wait()
	return conns, errors.Join(errs...)
}

// dialTLS returns when the server's first frame is there.
func (s *squad) dialTLS(number int, query string) (net.Conn, error) {
	d := &net.Dialer{Timeout: connectTimeout}
	// The certificate is one that this run made.
	c, err := tls.DialWithDialer(d, "tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, fmt.Errorf("client %d: %w", number, err)
	}
	_ = c.SetDeadline(time.Now().Add(connectTimeout)) // of an open connection it cannot fail
	if _, err = c.Write(s.request(number, query)); err != nil {
		return nil, fmt.Errorf("client %d: ask for the upgrade: %w", number, err)
	}
	var head []byte
	buf, greeted := make([]byte, 4096), s.hello == ""
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("client %d: shake hands: %w after %q", number, err, head)
		}
		head = append(head, buf[:n]...)
		_, frames, up := bytes.Cut(head, []byte("\r\n\r\n"))
		switch {
		case !up:
		case !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")):
			return nil, fmt.Errorf("client %d: shake hands: got %q, want 101", number, head)
		case !greeted:
			greeted = true
			if _, err := c.Write(maskedFrame(opText, []byte(numbered(s.hello, number)))); err != nil {
				return nil, fmt.Errorf("client %d: say hello: %w", number, err)
			}
		default:
			if _, _, ok := splitFrame(frames); ok {
				return c, nil
			}
		}
	}
}
