package conn

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"
)

// sealed is a TLS connection whose socket a poller waits for: crypto/tls works
// on top of it as before, but each of its reads may find nothing, and its writes
// are kept here as far as the socket does not take them.
type sealed struct {
	*descriptor
	tls *tls.Conn
	out []byte  // records that the socket has not taken; empty: none
	lot *[]byte // whose memory out is, if it is the pool's
}

// exchangeable is a connection beneath TLS that gives its socket away, as the
// server's listener made it. The old one is the caller's.
type exchangeable interface {
	Exchange(net.Conn) (old net.Conn)
}

// records is what writeNow seals at a time, and what one write of it may hold:
// 16 KiB and what TLS adds to each record, which are short at first.
const (
	sealAtOnce   = coalesce
	recordsBytes = sealAtOnce + 2<<10
)

var recordsPool = sync.Pool{New: func() any { b := make([]byte, 0, recordsBytes); return &b }}

// seal takes over the socket beneath a TLS connection. nil: nc is none, does not
// give its socket away, or has one of another kind; it is still the caller's.
func (p *poller) seal(d *descriptor, nc net.Conn) parked {
	t, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	below, ok := t.NetConn().(exchangeable)
	if !ok {
		return nil
	}
	s := &sealed{descriptor: d, tls: t}
	old := below.Exchange(beneath{s})
	if !p.take(d, old) {
		below.Exchange(old)
		return nil
	}
	return s
}

func (s *sealed) readNow(b []byte) (int, error) {
	n, err := s.tls.Read(b)
	if len(s.out) > 0 { // an answer of TLS's own, such as new keys
		if _, ferr := s.flush(); err == nil {
			err = ferr
		}
	}
	return n, err
}

// writeNow seals as much of b as the socket takes, and at most one lot more.
func (s *sealed) writeNow(b []byte) (n int, full bool, err error) {
	for {
		if full, err = s.flush(); full || err != nil || n == len(b) {
			return n, full, err
		}
		k, err := s.sealSome(b[n:min(len(b), n+sealAtOnce)])
		if n += k; err != nil {
			return n, false, err
		}
	}
}

// sealSome makes records of b, in memory of the pool until they are flushed.
func (s *sealed) sealSome(b []byte) (int, error) {
	s.lot = recordsPool.Get().(*[]byte)
	s.out = (*s.lot)[:0]
	return s.tls.Write(b)
}

// flush writes the records. What the socket does not take is kept in memory of
// its own: it may be a while.
func (s *sealed) flush() (full bool, err error) {
	if len(s.out) == 0 {
		return false, nil
	}
	n, full, err := s.descriptor.writeNow(s.out)
	if s.out = s.out[n:]; s.lot != nil {
		s.out = slices.Clone(s.out)
		recordsPool.Put(s.lot)
		s.lot = nil
	}
	if !full {
		s.out = nil
	}
	return full, err
}

// closeWrite says goodbye in TLS's way, and then in TCP's, unless the socket is
// full at this very moment: then the client learns it from the end.
func (s *sealed) closeWrite() error {
	if err := s.tls.CloseWrite(); err != nil {
		return err
	}
	if full, err := s.flush(); full || err != nil {
		return err
	}
	return s.descriptor.closeWrite()
}

func (s *sealed) close() {
	_ = s.tls.CloseWrite() // so that the client can tell this end from one that was cut off; it may have been said
	_, _ = s.flush()
	s.descriptor.close()
}

// beneath is a sealed socket as crypto/tls sees it.
type beneath struct{ s *sealed }

func (b beneath) Read(p []byte) (int, error) {
	n, err := b.s.descriptor.readNow(p)
	if n > 0 {
		err = nil // crypto/tls would give up a record of which it has enough
	}
	return n, err
}

func (b beneath) Write(p []byte) (int, error) {
	b.s.out = append(b.s.out, p...)
	return len(p), nil
}

func (b beneath) Close() error                     { return nil } // the Conn closes it
func (b beneath) LocalAddr() net.Addr              { return nil } // nobody asks
func (b beneath) RemoteAddr() net.Addr             { return nil }
func (b beneath) SetDeadline(time.Time) error      { return nil } // nothing waits here
func (b beneath) SetReadDeadline(time.Time) error  { return nil }
func (b beneath) SetWriteDeadline(time.Time) error { return nil }
