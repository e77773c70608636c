package socket

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"
)

// sealed is a TLS connection whose socket a poller watches. crypto/tls works above
// it as it does above any net.Conn (see beneath), but each of its reads may find
// nothing, and the records that it writes are kept here as far as the socket has
// no room for them.
type sealed struct {
	*Parked
	tls    *tls.Conn
	out    []byte  // records that are not written; empty: none
	pooled *[]byte // the pool's memory that out is in; nil: out is memory of its own
}

// Exchanger is a connection beneath TLS that gives its socket away: Exchange
// replaces the connection that it wraps, and returns the old one to the caller. An
// httpx.Socket, which the server's listener makes, is one.
type Exchanger interface {
	Exchange(net.Conn) (old net.Conn)
}

// sealAtOnce is how much crypto/tls is given at a time, and recordsBytes what that
// becomes: TLS adds some bytes to each record, and its first records are short.
const (
	sealAtOnce   = BufferBytes
	recordsBytes = sealAtOnce + 2<<10
)

var recordsPool = sync.Pool{New: func() any { b := make([]byte, 0, recordsBytes); return &b }}

// seal adopts the socket beneath a TLS connection. nil: nc is no TLS connection, is
// not above an Exchanger, or that has no descriptor; nc is still the caller's.
func seal(p *poller, memory *Parked, nc net.Conn) Polled {
	t, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	below, ok := t.NetConn().(Exchanger)
	if !ok {
		return nil
	}
	s := &sealed{Parked: memory, tls: t}
	old := below.Exchange(beneath{s})
	if !memory.adopt(p, old) {
		below.Exchange(old)
		return nil
	}
	return s
}

// Watch: crypto/tls may have read bytes already for which no event comes any more.
func (s *sealed) Watch(o Owner) (readable bool, err error) { return true, s.poller.add(s.Parked, o) }

func (s *sealed) Read(b []byte) (int, error) {
	n, err := s.tls.Read(b)
	if len(s.out) > 0 { // an answer of TLS's own, such as new keys
		if _, ferr := s.flush(); err == nil {
			err = ferr
		}
	}
	return n, err
}

// Write seals as much of b as the socket has room for, and at most sealAtOnce bytes
// more, whose records it keeps.
func (s *sealed) Write(b []byte) (n int, full bool, err error) {
	for {
		if full, err = s.flush(); full || err != nil || n == len(b) {
			return n, full, err
		}
		k, err := s.seal(b[n:min(len(b), n+sealAtOnce)])
		if n += k; err != nil {
			return n, false, err
		}
	}
}

// seal makes records of b, in memory of the pool until they are flushed.
func (s *sealed) seal(b []byte) (int, error) {
	s.pooled = recordsPool.Get().(*[]byte)
	s.out = (*s.pooled)[:0]
	return s.tls.Write(b)
}

// flush writes the records. Those for which there is no room are copied to memory
// of their own, since they may stay for a while.
func (s *sealed) flush() (full bool, err error) {
	if len(s.out) == 0 {
		return false, nil
	}
	n, full, err := s.Parked.Write(s.out)
	if s.out = s.out[n:]; s.pooled != nil {
		s.out = slices.Clone(s.out)
		recordsPool.Put(s.pooled)
		s.pooled = nil
	}
	if !full {
		s.out = nil
	}
	return full, err
}

// CloseWrite ends TLS by its alert, and then TCP by its FIN, unless the socket has
// no room at this moment: then the client learns it when the socket is closed.
func (s *sealed) CloseWrite() error {
	if err := s.tls.CloseWrite(); err != nil {
		return err
	}
	if full, err := s.flush(); full || err != nil {
		return err
	}
	return s.Parked.CloseWrite()
}

// Close sends TLS's alert, if that was not sent yet, so that the client can tell
// this end from a connection that was cut off.
func (s *sealed) Close() {
	_ = s.tls.CloseWrite()
	_, _ = s.flush()
	s.Parked.Close()
}

// beneath is a sealed socket as crypto/tls sees it.
type beneath struct{ s *sealed }

func (b beneath) Read(p []byte) (int, error) {
	n, err := b.s.Parked.Read(p)
	if n > 0 {
		err = nil // crypto/tls would give up a record of which it has enough
	}
	return n, err
}

func (b beneath) Write(p []byte) (int, error) {
	b.s.out = append(b.s.out, p...)
	return len(p), nil
}

func (b beneath) Close() error                     { return nil } // sealed.Close does
func (b beneath) LocalAddr() net.Addr              { return nil } // nobody asks
func (b beneath) RemoteAddr() net.Addr             { return nil }
func (b beneath) SetDeadline(time.Time) error      { return nil } // no call waits here
func (b beneath) SetReadDeadline(time.Time) error  { return nil }
func (b beneath) SetWriteDeadline(time.Time) error { return nil }
