package conn_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// inventedTime runs a test with a set of this heartbeat in invented time.
func inventedTime(t *testing.T, heartbeat time.Duration, test func(s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &server{
			t: t, conns: make(chan *conn.Conn, 100), codes: make(chan proto.CloseCode, 100),
			set: conn.NewSet(conn.Config{Heartbeat: heartbeat, MaxQueueBytes: 1 << 20, Blocking: true}, nil),
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.set.Run(ctx) })
		test(s)
		s.set.Drain(t.Context(), 0, proto.CloseGoingAway)
		s.set.Wait()
		stop()
		running.Wait()
	})
}

// Nobody is silent for much longer than the heartbeat interval without a ping, nobody is
// pinged much more often, nobody is never pinged, busy as it may be, and only who leaves
// a ping unanswered for the interval is closed.
func TestHeartbeatBounds(t *testing.T) {
	const intervals, slack, roundTrip = 50, time.Second, 20 * time.Millisecond
	seed := random(t)
	for range 30 {
		heartbeat := time.Duration(1+seed.IntN(60)) * time.Second
		busy := seed.IntN(2) == 0
		r := rand.New(rand.NewPCG(seed.Uint64(), 0))
		inventedTime(t, heartbeat, func(s *server) {
			time.Sleep(time.Duration(r.Int64N(int64(time.Minute)))) // it comes at any moment of the wheel's round
			begin := time.Now()
			last, pings, answers := begin, 0, true
			var pinged time.Time
			f := &fake{room: -1}
			f.wrote = func(b []byte) { // f.mu is held, which guards all of the above
				if silent := time.Since(last); answers && silent > heartbeat+slack {
					t.Errorf("heartbeat %s: silent for %s", heartbeat, silent)
				}
				last = time.Now()
				if bytes.Equal(b, conn.WebSocket.Heartbeat) {
					pings++
					pinged = last
					if answers {
						time.AfterFunc(roundTrip, func() {
							f.say(masked(opPong, nil))
							f.mu.Lock()
							defer f.mu.Unlock()
							last = time.Now()
						})
					}
				}
			}
			c := s.attach(f)
			for end := begin.Add(intervals * heartbeat); time.Now().Before(end); {
				time.Sleep(time.Duration(r.Int64N(int64(heartbeat))) + 1)
				if busy {
					c.Push(textFrame([]byte("live")))
				}
			}
			f.mu.Lock()
			if most := intervals*int(heartbeat/time.Second)/max(1, int(heartbeat/time.Second)-3) + 1; pings > most ||
				pings < intervals/6 || !busy && pings < intervals-2 {
				t.Errorf("heartbeat %s, busy %t: %d pings in %d intervals", heartbeat, busy, pings, intervals)
			}
			answers = false // and now the client is gone
			f.mu.Unlock()
			if code := <-s.codes; code != proto.CloseHeartbeat {
				t.Errorf("heartbeat %s: a client that does not answer ended with %v", heartbeat, code)
			}
			const closeWait = 2 * time.Second // for the answer to the goodbye
			if took := time.Since(pinged) - closeWait; took < heartbeat-slack || took > heartbeat+heartbeat/2+2*slack {
				t.Errorf("heartbeat %s: closed %s after the ping", heartbeat, took)
			}
		})
	}
}

// A dialect may have a heartbeat sent every interval, however busy the client is.
func TestSteadyHeartbeat(t *testing.T) {
	for _, heartbeat := range []time.Duration{time.Second, 2 * time.Second, 25 * time.Second} {
		inventedTime(t, heartbeat, func(s *server) {
			ping, pong := textFrame([]byte("2")), masked(opText, []byte("3")) // as Engine.IO words them
			s.format = &conn.Format{Heartbeat: ping, Goodbye: conn.WebSocket.Goodbye, Steady: true}
			last, pings, answers := time.Now(), 0, true
			f := &fake{room: -1}
			f.wrote = func(b []byte) { // f.mu is held, which guards all of the above
				if !bytes.Equal(b, ping) {
					return
				}
				if gap := time.Since(last); gap > heartbeat+time.Second {
					t.Errorf("heartbeat %s: none for %s", heartbeat, gap)
				}
				last = time.Now()
				pings++
				if answers {
					time.AfterFunc(20*time.Millisecond, func() { f.say(pong) })
				}
			}
			c := s.attach(f)
			for range 500 {
				time.Sleep(heartbeat / 10)
				c.Push(textFrame([]byte("live")))
				f.say(masked(opText, []byte("busy")))
			}
			f.mu.Lock()
			if pings < 49 || pings > 60 {
				t.Errorf("heartbeat %s: %d in 50 intervals", heartbeat, pings)
			}
			answers = false
			f.mu.Unlock()
			if code := <-s.codes; code != proto.CloseHeartbeat {
				t.Errorf("heartbeat %s: who answers no more ended with %v", heartbeat, code)
			}
		})
	}
}

// The first one comes after an interval, and not at once. With a short tick intervals may be
// below a second; a client that neither answers nor reads is gone HeartbeatWait after it.
func TestShortHeartbeat(t *testing.T) {
	const heartbeat, wait, tick = 300 * time.Millisecond, 200 * time.Millisecond, 10 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		s := &server{
			t: t, conns: make(chan *conn.Conn, 2), codes: make(chan proto.CloseCode, 2),
			set: conn.NewSet(conn.Config{Heartbeat: heartbeat, HeartbeatWait: wait, Tick: tick, MaxQueueBytes: 1 << 20,
				Blocking: true}, nil),
			format: &conn.Format{Heartbeat: textFrame([]byte("2")), Goodbye: conn.WebSocket.Goodbye, Steady: true},
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.set.Run(ctx) })
		time.Sleep(time.Minute) // a set that is older than its clients
		begin := time.Now()
		var pings []time.Duration
		f, deaf := &fake{room: -1}, &fake{}
		f.wrote = func([]byte) { // f.mu is held, which guards pings
			pings = append(pings, time.Since(begin))
			time.AfterFunc(time.Millisecond, func() { f.say(masked(opText, []byte("3"))) })
		}
		s.attach(f)
		s.attach(deaf)
		if code := <-s.codes; code != proto.CloseHeartbeat {
			t.Errorf("who does not answer ended with %v", code)
		}
		if took := time.Since(begin); took < heartbeat+wait-2*tick || took > heartbeat+wait+2*tick {
			t.Errorf("it ended after %s, want %s", took, heartbeat+wait)
		}
		time.Sleep(time.Until(begin.Add(10*heartbeat + 2*tick)))
		f.mu.Lock()
		if len(pings) < 10 || len(pings) > 11 || pings[0] < heartbeat-2*tick || pings[0] > heartbeat+2*tick {
			t.Errorf("pings at %v in 10 intervals of %s", pings, heartbeat)
		}
		f.mu.Unlock()
		s.set.Drain(t.Context(), 0, proto.CloseGoingAway)
		s.set.Wait()
		stop()
		running.Wait()
	})
}

// Heartbeats are spread evenly over the seconds, however the clients came.
func TestHeartbeatsAreSpread(t *testing.T) {
	const heartbeat, clients = 20 * time.Second, 100
	inventedTime(t, heartbeat, func(s *server) {
		var mu sync.Mutex
		pings := map[int]int{} // guarded by mu; by second
		begin := time.Now()
		for range clients {
			f := &fake{room: -1}
			f.wrote = func([]byte) {
				mu.Lock()
				defer mu.Unlock()
				pings[int(time.Since(begin)/time.Second)]++
				time.AfterFunc(time.Millisecond, func() { f.say(masked(opPong, nil)) })
			}
			s.attach(f)
		}
		time.Sleep(3 * heartbeat)
		mu.Lock()
		defer mu.Unlock()
		for second, n := range pings {
			if n > clients/10 {
				t.Errorf("%d of %d clients were pinged in second %d", n, clients, second)
			}
		}
		if len(pings) < 20 {
			t.Errorf("pings in %d seconds: %v", len(pings), pings)
		}
	})
}

// hijacked is a handshake over a pipe, as net/http would hand it over.
type hijacked struct {
	*httptest.ResponseRecorder
	nc net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.nc, bufio.NewReadWriter(bufio.NewReader(h.nc), bufio.NewWriter(h.nc)), nil
}

// While its Client is busy nothing is read from a blocking socket, so that a pong is not
// seen: the client has the interval from when it is read from again.
func TestHeartbeatWhileBusy(t *testing.T) {
	const heartbeat = 10 * time.Second
	inventedTime(t, heartbeat, func(s *server) {
		done := make(chan struct{})
		s.greet = func(*conn.Conn) { <-done }
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }() // ends with the connection
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		c := new(conn.Conn)
		if err := s.set.Accept(c, hijacked{httptest.NewRecorder(), ours}, r, local, "x", conn.WebSocket,
			nil); err != nil {
			t.Fatal(err)
		}
		c.Start(&caller{s, c})
		time.Sleep(20 * heartbeat)
		if code := c.Reason(); code != 0 {
			t.Errorf("closed with %v while its Client is busy", code)
		}
		close(done)
		begin := time.Now()
		if code := <-s.codes; code != proto.CloseHeartbeat {
			t.Errorf("got %v, want %v of a client that sends nothing", code, proto.CloseHeartbeat)
		}
		// The wheel may have looked last half an interval ago.
		if took := time.Since(begin); took < heartbeat/2-time.Second {
			t.Errorf("it was closed %s after it was read from again", took)
		}
	})
}

// A token may end at any time of day, also after 2262, when nanoseconds since 1970 exceed
// 63 bits.
func TestExpireFarAway(t *testing.T) {
	inventedTime(t, 2*time.Second, func(s *server) {
		f := &fake{room: -1}
		c := s.attach(f)
		f.wrote = func([]byte) { time.AfterFunc(time.Millisecond, func() { f.say(masked(opPong, nil)) }) }
		for _, at := range []time.Time{time.Unix(9999999999, 0), time.Unix(1<<40, 0),
			time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
			c.Expire(at)
			time.Sleep(time.Minute)
			if code := c.Reason(); code != 0 {
				t.Fatalf("%v: closed with %v", at, code)
			}
		}
		c.Expire(time.Now().Add(time.Hour))
		time.Sleep(59 * time.Minute)
		if code := c.Reason(); code != 0 {
			t.Errorf("closed with %v before the hour", code)
		}
		time.Sleep(time.Minute + time.Second)
		if code := c.Reason(); code != proto.CloseTokenExpired {
			t.Errorf("after the hour: got %v", code)
		}
	})
}
