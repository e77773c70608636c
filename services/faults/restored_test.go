package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// Every server of a cluster loses the newest messages, as when all are restored from older
// copies of their folders. No server can tell; ingest, which was told that those messages are
// stored, and the gateway, which has handed them on, know, and another epoch begins: no id is
// given out twice, connected clients are told to come back, and who comes back with the id of a
// message that is lost is told of a gap and gets everything that was stored since. An ingest
// that is started anew knows nothing, and asks: the gateway, or nobody.
func TestClusterRestored(t *testing.T) {
	t.Parallel()
	for _, knows := range []string{"ingest", "the gateway", "nobody"} {
		t.Run(knows+" knows", func(t *testing.T) {
			t.Parallel()
			clusterRestored(t, knows)
		})
	}
}

func clusterRestored(t *testing.T, knows string) {
	s := newSystem(t, shape{brokers: 3, ingests: 1, gateways: 1})
	restart := func(between func(dir, copy string)) {
		for _, b := range s.brokers {
			b.stop()
		}
		for i, b := range s.brokers {
			between(filepath.Join(b.dir, "jetstream"), filepath.Join(s.brokers[0].dir, fmt.Sprint("copy", i)))
		}
		for _, b := range s.brokers {
			b.start()
		}
		for _, b := range s.brokers {
			b.await()
		}
		s.whole()
	}
	copyFolder := func(from, to string) {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]uint64{} // what each was given out for
	n := uint64(0)
	publish := func(count int) (id string) {
		for range count {
			n++
			m := message{n: n, channel: "public.a", tried: time.Now()}
			natstest.Eventually(t, time.Minute, "accepted", func() bool {
				got, again, err := s.publisher.attempt(t.Context(), s.ingests[0].addr, m,
					fmt.Appendf(nil, `{"n":%d}`, n))
				if err != nil && !again {
					t.Fatal(err)
				}
				id = got
				return err == nil
			})
			if before, given := ids[id]; given {
				t.Fatalf("messages %d and %d have the same id %s", before, n, id)
			}
			ids[id] = n
		}
		return id
	}
	kept := publish(20)
	restart(copyFolder)
	client, _ := s.dial("since=" + kept)
	lost := publish(10)
	for range 10 {
		if f := client(); f.Type != "" {
			t.Fatalf("got %+v, want a message", f)
		}
	}
	if knows != "ingest" {
		s.ingests[0].kill()
	}
	if knows == "nobody" {
		s.gateways[0].kill()
	}
	restart(func(dir, copy string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		copyFolder(copy, dir)
	})
	if knows != "ingest" {
		s.ingests[0].start()
	}
	if knows == "nobody" {
		s.gateways[0].start()
	}
	first := publish(1) // at once: an ingest that has just started must not have taken an id of before
	publish(14)
	if knows != "nobody" {
		if f := client(); f.Code != int(proto.CloseRestart) {
			t.Fatalf("got %+v, want to be told to come back", f)
		}
	}
	if before, after := epochOf(t, lost), epochOf(t, first); before == after {
		t.Errorf("%s is of the epoch of %s, which is lost", first, lost)
	}
	back, welcome := s.dial("since=" + lost)
	if welcome.Resumed {
		t.Errorf("got %+v after the loss", welcome)
	}
	if f := back(); f.Type != proto.FrameGap || f.Reason != proto.GapEpoch {
		t.Errorf("got %+v, want a gap", f)
	}
	for want := n - 14; want <= n; want++ {
		if f := back(); f.Data.N != want || ids[f.ID] != want {
			t.Fatalf("got %+v, want message %d", f, want)
		}
	}
}

// told is what a client got: a message, a control frame, or why the connection ended.
type told struct {
	Type, ID, Reason string
	Resumed          bool
	Data             struct{ N uint64 }
	Code             int
}

func epochOf(t testing.TB, id string) string {
	t.Helper()
	cur, err := proto.ParseCursor(id)
	if err != nil {
		t.Fatal(err)
	}
	return cur.Epoch
}

// dial is a client of public.a that reads one frame after the other. It passes over those
// that say only how far it is.
func (s *system) dial(query string) (read func() told, welcome told) {
	s.t.Helper()
	url := "ws://" + s.gateways[0].addr + "/ws?channel=public.a&" + query
	var ws *websocket.Conn
	natstest.Eventually(s.t, time.Minute, "a client connects", func() bool {
		var err error
		var resp *http.Response
		if ws, resp, err = websocket.DefaultDialer.Dial(url, nil); err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	s.t.Cleanup(func() { _ = ws.Close() })
	read = func() (f told) {
		s.t.Helper()
		_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
		_, b, err := ws.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case err == nil:
			err = json.Unmarshal(b, &f)
		case errors.As(err, &closed):
			return told{Code: closed.Code}
		}
		if err != nil {
			s.t.Fatalf("%s: %v", b, err)
		}
		if f.Type == proto.FramePosition || f.Type == proto.FrameSubscribed {
			return read()
		}
		return f
	}
	for welcome = read(); welcome.Type != proto.FrameWelcome; welcome = read() {
		if welcome.Code != 0 {
			s.t.Fatalf("got %+v, want a welcome", welcome)
		}
	}
	return read, welcome
}
