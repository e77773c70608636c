package httpx

import "net"

// Socket is a connection whose socket can be given away, although TLS lies on
// top of it: whoever takes over a *tls.Conn finds it by NetConn, and may put
// something of its own in the place of Go's socket, such as one that does not
// block. Nobody may read or write meanwhile.
type Socket struct{ net.Conn }

// Exchange puts another connection in the socket's place and returns the one
// that was there, which is the caller's from then on.
func (s *Socket) Exchange(nc net.Conn) (old net.Conn) {
	old, s.Conn = s.Conn, nc
	return old
}

// Sockets makes the connections of a listener Sockets. TLS goes on top of it.
func Sockets(l net.Listener) net.Listener { return sockets{l} }

type sockets struct{ net.Listener }

func (l sockets) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Socket{nc}, nil
}
