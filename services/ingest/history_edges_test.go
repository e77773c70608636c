package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

// An id of what NATS has lost is gone, and the answer says from where on nothing is missing.
func TestHistoryOfWhatIsLost(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	connected := func() {
		t.Helper()
		natstest.Eventually(t, 30*time.Second, "ready",
			func() bool { return r.nc.IsConnected() && r.ready(t.Context()) == nil })
	}
	r.until200(`{"channel":"a","data":1}`)
	var lost string
	server.Forget(func() {
		connected()
		lost = r.until200(`{"channel":"a","data":2}`).ID
	})
	connected()
	first := r.until200(`{"channel":"a","data":3}`).ID
	second := r.until200(`{"channel":"a","data":4}`).ID
	p := r.get("a", "since="+lost).problem(t, proto.ProblemGone)
	_, since, ok := strings.Cut(p.Detail, "; since=")
	since, _, behind := strings.Cut(since, " ")
	if !ok || !behind {
		t.Fatalf("detail: got %q, want from where on nothing is missing", p.Detail)
	}
	wantIDs(t, "since "+since, r.page("a", "since="+since).ids(), []string{first, second})
}

// Up to the edge of what is kept an id is good; behind it, and where only a
// guess would be possible, it is gone, and the answer says what to do.
func TestHistoryRetention(t *testing.T) {
	r := start(t, startNATS(t))
	s, err := r.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	quiet := r.page("quiet", "").Next
	ids := r.fill("a", "b", "a", "b", "a", "b", "a", "b", "a", "b")
	quiet = r.page("quiet", "since="+quiet).Next // a poller that polls does not grow old
	if err := s.Purge(t.Context(), jetstream.WithPurgeKeep(3)); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if i < 7 { // ids[7] is the first one kept; whether ids[6] was the last of its pack nobody knows any more
			if p := r.get("a", "since="+id).problem(t, proto.ProblemGone); !strings.Contains(p.Detail, "since=all") {
				t.Errorf("detail: got %q, want what to do", p.Detail)
			}
			continue
		}
		wantIDs(t, "since "+id, r.page("%3E", "since="+id).ids(), ids[i+1:])
	}
	wantIDs(t, "all of a", r.page("a", "since=all").ids(), ids[8:9])
	wantIDs(t, "a quiet channel", r.page("quiet", "since="+quiet).ids(), []string{})
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := behindPackOf(ids[9])
	for _, since := range []string{"all", "last", end} {
		if page := r.page("a", "since="+since); len(page.Messages) != 0 || page.Next != end {
			t.Errorf("since %s after a purge: got %+v, want nothing up to %s", since, page, end)
		}
	}
	r.get("a", "since="+ids[8]).problem(t, proto.ProblemGone)
	more := r.fill("a")
	wantIDs(t, "after the purge", r.page("a", "since="+end).ids(), more)
}

// Ids of another life of the stream, and of messages that were never stored,
// are gone, not guessed at.
func TestHistoryEpoch(t *testing.T) {
	server := startNATS(t)
	r := start(t, server, neverRechecks)
	ids := r.fill("a", "a")
	epoch := r.publisher.Epoch()
	for _, since := range []string{idAt(epoch, 3), epoch + "-18446744073709551615", "x-1", "x-0"} {
		r.get("a", "since="+since).problem(t, proto.ProblemGone)
	}
	epoch = natstest.RemakeStream(t, dial(t, server), 5)
	for _, id := range ids {
		r.get("a", "since="+id).problem(t, proto.ProblemGone)
	}
	wantIDs(t, "the new stream", r.page("a", "since="+idAt(epoch, 3)).ids(), []string{idAt(epoch, 4), idAt(epoch, 5)})
	if err := r.js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	for _, since := range []string{"all", "last", idAt(epoch, 1)} {
		if p := r.get("a", "since="+since).problem(t, proto.ProblemUnavailable); !strings.Contains(p.Detail,
			"no stream") {
			t.Errorf("since %s without a stream: detail: got %q", since, p.Detail)
		}
	}
}

// Where a page may begin.
func TestHistoryPlace(t *testing.T) {
	created := time.Now()
	at := func(number uint64) string { return proto.Cursor{Epoch: proto.EpochOf(created), Seq: number}.String() }
	state := natsx.State{Epochs: natsx.EpochsOf(&jetstream.StreamInfo{Created: created}), First: 5, Last: 9}
	for since, want := range map[string]uint64{"all": proto.EndOf(4), at(proto.EndOf(4)): proto.EndOf(4),
		at(proto.Number(8, 0)): proto.Number(8, 0), at(proto.EndOf(9)): proto.EndOf(9)} {
		q := historyQuery{since: since}
		q.id, _ = proto.ParseCursor(since)
		if got, err := place(q, state); got != want || err != nil {
			t.Errorf("since %s: got %d, %v, want %d", since, got, err, want)
		}
	}
	for _, since := range []string{at(proto.EndOf(3)), at(proto.Number(10, 0)), "f-7"} {
		q := historyQuery{since: since}
		q.id, _ = proto.ParseCursor(since)
		if got, err := place(q, state); err == nil {
			t.Errorf("since %s: got %d, want a problem", since, got)
		}
	}
}
