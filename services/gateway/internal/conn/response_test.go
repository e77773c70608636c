package conn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

var lineFormat = &conn.Format{
	Heartbeat: []byte(":\n"),
	Goodbye:   func(code proto.CloseCode) []byte { return []byte("bye " + code.String() + "\n") },
}

// streams serves endless responses, in one of three forms.
type streams struct {
	t        testing.TB
	set      *conn.Set
	http     *httptest.Server
	conns    chan *conn.Conn
	codes    chan proto.CloseCode
	refused  chan error
	returned chan struct{} // one for each handler that did
}

func streamForms(t *testing.T, cfg conn.Config, test func(t *testing.T, s *streams)) {
	if cfg.MaxQueueBytes == 0 {
		cfg.MaxQueueBytes = 1 << 20
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Minute
	}
	for _, form := range []string{"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			s := &streams{
				t: t, set: conn.NewSet(cfg, nil), conns: make(chan *conn.Conn, 100),
				codes:   make(chan proto.CloseCode, 100),
				refused: make(chan error, 100), returned: make(chan struct{}, 100),
			}
			s.http = httptest.NewUnstartedServer(s)
			s.http.Listener = listener{Listener: s.http.Listener}
			s.http.EnableHTTP2 = form == "HTTP/2"
			s.http.Config.ReadTimeout, s.http.Config.WriteTimeout = serverTimeout, serverTimeout // to be lifted
			if form == "HTTP/1.1" {
				s.http.Start()
			} else {
				s.http.StartTLS()
			}
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { s.set.Run(ctx) })
			t.Cleanup(func() {
				s.set.Drain(ctx, 0, proto.CloseGoingAway)
				s.set.Wait()
				stop()
				running.Wait()
				s.http.Client().CloseIdleConnections()
				s.http.Close()
			})
			test(t, s)
		})
	}
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { s.returned <- struct{}{} }()
	c := new(conn.Conn)
	err := s.set.Respond(c, w, r, local, "test", lineFormat, &streamed{s, c})
	if err != nil {
		s.refused <- err
		w.WriteHeader(http.StatusTeapot)
	}
}

type streamed struct {
	s *streams
	c *conn.Conn
}

func (l *streamed) Arrived()           { l.s.conns <- l.c }
func (l *streamed) Frame([]byte, bool) { l.s.t.Error("a stream brought a frame") }
func (l *streamed) Ended()             { l.s.codes <- l.c.Reason() }

// connect opens a client and returns the server's side of it, too. It reads
// nothing by itself.
func (s *streams) connect() (*bufio.Reader, func(), *conn.Conn) {
	s.t.Helper()
	ctx, hangUp := context.WithCancel(context.Background())
	s.t.Cleanup(hangUp)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	type answer struct {
		resp *http.Response
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the first byte, which comes below
		resp, err := s.http.Client().Do(req)
		answers <- answer{resp, err}
	}()
	c := <-s.conns
	c.Push([]byte("hello\n"))
	a := <-answers
	if a.err != nil {
		s.t.Fatal(a.err)
	}
	s.t.Cleanup(func() { _ = a.resp.Body.Close() })
	r := bufio.NewReader(a.resp.Body)
	s.want(r, "hello\n")
	return r, hangUp, c
}

func (s *streams) want(r *bufio.Reader, want string) {
	s.t.Helper()
	if got, err := r.ReadString('\n'); got != want || err != nil {
		s.t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func (s *streams) ended(want proto.CloseCode) {
	s.t.Helper()
	select {
	case code := <-s.codes:
		if code != want {
			s.t.Fatalf("it ended with %v, want %v", code, want)
		}
	case <-time.After(time.Minute):
		s.t.Fatal("the connection does not end")
	}
	<-s.returned
}

// serverTimeout is enough for a handshake on a busy machine.
const serverTimeout = 3 * time.Second

// What is sent arrives, also long after the server's own timeouts; the goodbye
// comes last, and the body ends as it should.
func TestStream(t *testing.T) {
	streamForms(t, conn.Config{}, func(t *testing.T, s *streams) {
		r, _, c := s.connect()
		begin := time.Now()
		for i := 0; time.Since(begin) < serverTimeout+time.Second; i++ {
			line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 3000))
			c.Push([]byte(line))
			s.want(r, line)
		}
		c.Push([]byte("last\n"))
		c.Close(proto.CloseBadRequest)
		c.Push([]byte("too late\n"))
		s.want(r, "last\n")
		s.want(r, "bye bad-request\n")
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
			t.Errorf("after the goodbye: got %q, %v; want the end of the body", rest, err)
		}
		s.ended(proto.CloseBadRequest)
	})
}

// A client that hangs up ends its handler.
func TestStreamHangUp(t *testing.T) {
	streamForms(t, conn.Config{}, func(t *testing.T, s *streams) {
		_, hangUp, c := s.connect()
		hangUp()
		s.ended(proto.CloseNormal)
		c.Push([]byte("to nobody\n"))
		if err := c.SendWait(context.Background(), []byte("x")); !errors.Is(err, conn.ErrClosed) {
			t.Errorf("SendWait: got %v, want conn.ErrClosed", err)
		}
	})
}

// A client that does not read is closed once its queue is full, and its
// handler returns although the socket takes nothing.
func TestStreamSlow(t *testing.T) {
	streamForms(t, conn.Config{MaxQueueBytes: 64 << 10, CloseWait: 100 * time.Millisecond},
		func(t *testing.T, s *streams) {
			_, _, c := s.connect()
			big := []byte(strings.Repeat("x", 8<<10) + "\n")
			for c.Reason() == 0 {
				c.Push(big)
			}
			s.ended(proto.CloseSlowConsumer)
		})
}

// A silent client gets a heartbeat, needs not answer, and stays.
func TestStreamHeartbeat(t *testing.T) {
	streamForms(t, conn.Config{Heartbeat: time.Second}, func(t *testing.T, s *streams) {
		r, _, c := s.connect()
		for range 3 {
			s.want(r, ":\n")
		}
		if code := c.Reason(); code != 0 {
			t.Errorf("closed with %v", code)
		}
	})
}

// Whoever comes after Drain has begun is not taken in.
func TestStreamDraining(t *testing.T) {
	streamForms(t, conn.Config{}, func(t *testing.T, s *streams) {
		r, _, _ := s.connect()
		s.set.Drain(context.Background(), 0, proto.CloseGoingAway)
		s.want(r, "bye going-away\n")
		s.ended(proto.CloseGoingAway)
		resp, err := s.http.Client().Get(s.http.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if err := <-s.refused; resp.StatusCode != http.StatusTeapot || !errors.Is(err, conn.ErrClosed) {
			t.Errorf("got status %d, %v; want the caller to answer, conn.ErrClosed", resp.StatusCode, err)
		}
	})
}
