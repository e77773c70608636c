package logger

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go/jetstream"
)

// checkComplete fails unless sequences 1 to n of the epoch are there, each once.
func (r *running) checkComplete(epoch string, n int) {
	r.t.Helper()
	r.eventually("all rows are there", func() bool { return r.last(epoch) >= n && r.count() >= n })
	next := uint64(1)
	err := r.store.Export(context.Background(), Filter{Asc: true}, func(row *Row) error {
		if row.Epoch == epoch {
			if row.Seq != proto.Number(next, 0) {
				r.t.Fatalf("got number %d, want that of sequence %d", row.Seq, next)
			}
			next++
		}
		return nil
	})
	if err != nil || next != uint64(n)+1 {
		r.t.Errorf("got %d rows, %v, want %d", next-1, err, n)
	}
}

func TestEveryMessageOnceThroughRestarts(t *testing.T) {
	const part = 2500
	w := newWorld(t)
	w.publish(1, part)
	r := w.startReady()
	w.publish(part+1, part)
	r.eventually("some of it is logged", func() bool { return r.last(w.epoch) > part })
	before := w.nc.Stats().Reconnects
	w.nats.Restart() // NATS goes and comes back while the logger runs
	natstest.Eventually(t, 30*time.Second, "the publisher is connected again",
		func() bool { return w.nc.Stats().Reconnects > before })
	w.publish(2*part+1, part)
	r.eventually("it goes on", func() bool { return r.last(w.epoch) > 2*part })
	r.stop() // somewhere in the middle
	w.publish(3*part+1, part)
	r = w.startReady()
	r.checkComplete(w.epoch, 4*part)
	r.eventually("all is acknowledged and accounted for", func() bool {
		epochs, err := r.store.Epochs(context.Background())
		return err == nil && len(epochs) == 1 && epochs[0].Accounted == 4*part &&
			r.metric("herald_logger_pending_messages") == 0
	})
	if holes := r.metric("herald_logger_holes_total"); holes != 0 {
		t.Errorf("holes: got %v, want 0", holes)
	}
}

// What NATS has sent when the service stops is logged and acknowledged, not
// left for a redelivery that comes only after AckWait.
func TestAStopLogsWhatWasDelivered(t *testing.T) {
	w := newWorld(t)
	w.timing.ackWait = time.Minute
	r := w.startReady()
	ctx := context.Background()
	free := fillDisk(t, w.cfg.DB) // so that all of it is in hand
	w.publish(1, 2500)
	r.eventually("not ready, as the disk is full", func() bool { return errors.Is(r.ops.Ready(ctx), store.ErrFull) })
	cons, err := w.js.Consumer(ctx, proto.Stream, durable)
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("all is delivered", func() bool {
		info, err := cons.Info(ctx)
		return err == nil && info.Delivered.Stream == 2500
	})
	if last := r.last(w.epoch); last != 0 {
		t.Fatalf("%d rows found room, want none", last)
	}
	free()
	r.stop()
	l, err := OpenLog(w.cfg.DB)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if last, err := l.store.LastSeq(ctx, w.epoch); err != nil || last != proto.Number(2500, 0) {
		t.Errorf("last row: got %d, %v, want 2500", last, err)
	}
	natstest.Eventually(t, 30*time.Second, "all is acknowledged", func() bool {
		info, err := cons.Info(ctx)
		return err == nil && info.NumAckPending == 0 && info.AckFloor.Stream == 2500
	})
}

func TestForeignMessagesAreLoggedAsTheyAre(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	ctx := context.Background()
	for _, body := range []string{
		"not json",
		"", `{"channel":"elsewhere","event":"message","data":1,"sender":"x","time":"2026-11-22T16:58:36.123Z"}`,
		`{"channel":"odd","event":"message","sender":"x","time":"2026-11-22T16:58:36.123Z"}`, "bad \xff utf-8\x00",
		`{"channel":"odd","event":"message","data":"fine","sender":"x","time":"yesterday"}`,
		`{"channel":"odd","event":"created","data":[1,"a"],"sender":"shop","time":"2026-11-22T17:58:36.123456+01:00"}`,
	} {
		if _, err := w.js.Publish(ctx, "herald.msg.odd", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	w.publish(1, 1)
	r.checkComplete(w.epoch, 8)
	p := r.entries(envKey, "order", "asc")
	want := []entry{
		{Message: "not json"}, {Message: ""},
		{Message: `{"channel":"elsewhere","event":"message","data":1,"sender":"x","time":"2026-11-22T16:58:36.123Z"}`},
		{Message: `{"channel":"odd","event":"message","sender":"x","time":"2026-11-22T16:58:36.123Z"}`},
		{Message: `"bad � utf-8\u0000"`},
		{Message: "fine", Event: "message", Sender: "x"}, {Message: `[1,"a"]`, Event: "created", Sender: "shop",
			Timestamp: "2026-11-22T16:58:36.123Z"},
	}
	for i, e := range want {
		got := p.Messages[i]
		if got.Channel != "odd" || got.Message != e.Message || got.Event != e.Event || got.Sender != e.Sender ||
			e.Timestamp != "" && got.Timestamp != e.Timestamp {
			t.Errorf("row %d: got %+v, want %+v", i+1, got, e)
		}
		if at, err := time.Parse(proto.TimeLayout, got.Timestamp); err != nil || e.Timestamp == "" &&
			time.Since(at).Abs() > time.Minute {
			t.Errorf("row %d: got timestamp %q, want the stream's", i+1, got.Timestamp)
		}
	}
	r.eventually("five foreign messages are counted",
		func() bool { return r.metric("herald_logger_foreign_messages_total") == 5 })
}

func TestFullDiskWaitsAndGoesOn(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.publish(1, 100)
	r.checkComplete(w.epoch, 100)
	ctx := context.Background()
	free := fillDisk(t, w.cfg.DB)
	w.publish(101, 2000)
	r.eventually("not ready, as the disk is full", func() bool { return errors.Is(r.ops.Ready(ctx), store.ErrFull) })
	if got := r.metric("herald_logger_disk_full"); got != 1 {
		t.Errorf("disk full: got %v, want 1", got)
	}
	if status, _, body := r.getRaw("", "/readyz"); status != 503 || strings.Contains(string(body), "disk full") {
		t.Errorf("readyz: got %d %s, want 503 without the reason", status, body)
	}
	if p := r.entries(envKey); len(p.Messages) != 100 {
		t.Errorf("reading while the disk is full: got %d messages, want 100", len(p.Messages))
	}
	full, stalls := time.Now(), r.metric("herald_logger_stalls_total") // a busy machine may have made some
	r.eventually("NATS takes the batch in hand for lost", func() bool { return time.Since(full) > 2*quick.ackWait })
	if got := r.metric("herald_logger_stalls_total"); got != stalls {
		t.Errorf("stalls: got %v, and %v before: it was the disk that was slow", got, stalls)
	}
	free()
	r.checkComplete(w.epoch, 2100)
	r.eventually("ready again", func() bool { return r.ops.Ready(ctx) == nil })
	if got := r.metric("herald_logger_disk_full"); got != 0 {
		t.Errorf("disk full at the end: got %v, want 0", got)
	}
}

func TestStreamMadeAnewIsTheNextEpoch(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.publish(1, 500)
	r.checkComplete(w.epoch, 500)
	ctx := context.Background()
	if err := w.js.DeleteStream(ctx, proto.Stream); err != nil {
		t.Fatal(err)
	}
	_, second := w.nats.Stream(w.nc)
	w.publish(1, 300)
	r.checkComplete(second, 300)
	if got := r.last(w.epoch); got != 500 || r.count() != 800 {
		t.Errorf("first epoch: got %d, all rows %d, want 500 and 800", got, r.count())
	}
	if p := r.entries(envKey, "limit", "1"); p.Messages[0].ID != (proto.Cursor{Epoch: second,
		Seq: proto.Number(300, 0)}).String() {
		t.Errorf("newest: got %s, want message 300 of %s", p.Messages[0].ID, second)
	}
}

func TestLostConsumerIsMadeAnewWhereTheLogEnds(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.publish(1, 400)
	r.checkComplete(w.epoch, 400)
	if err := w.js.DeleteConsumer(context.Background(), proto.Stream, durable); err != nil {
		t.Fatal(err)
	}
	w.publish(401, 400)
	r.checkComplete(w.epoch, 800)
}

func TestReadingTheStreamAgainChangesNothing(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.publish(1, 700)
	r.checkComplete(w.epoch, 700)
	r.stop()
	ctx := context.Background()
	stream, err := w.js.Stream(ctx, proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteConsumer(ctx, durable); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: durable,
		AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	r = w.startReady()
	r.eventually("all came again", func() bool { return r.metric("herald_logger_redeliveries_total") == 700 })
	if rows, count := r.metric("herald_logger_rows_total"), r.count(); rows != 0 || count != 700 {
		t.Errorf("got %v new rows, %d in all, want 0 and 700", rows, count)
	}
}

func TestLostFileIsFilledAgain(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.publish(1, 600)
	r.checkComplete(w.epoch, 600)
	r.eventually("all is acknowledged", func() bool { return r.metric("herald_logger_pending_messages") == 0 })
	r.stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(w.cfg.DB + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	w.publish(601, 10)
	r = w.startReady()
	r.checkComplete(w.epoch, 610)
}

func TestHolesAreCounted(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.publish(1, 100)
	r.checkComplete(w.epoch, 100)
	r.eventually("all is acknowledged", func() bool { return r.metric("herald_logger_pending_messages") == 0 })
	r.stop()
	w.publish(101, 100)
	ctx := context.Background()
	stream, err := w.js.Stream(ctx, proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{120, 150, 151} { // lost while the logger was away
		if err := stream.DeleteMsg(ctx, seq); err != nil {
			t.Fatal(err)
		}
	}
	for restarts, found := range []float64{3, 0} { // a restart does not count them again
		r = w.startReady()
		r.eventually("the rest is logged", func() bool { return r.count() == 197 })
		r.eventually("holes are counted", func() bool { return r.metric("herald_logger_missing_messages") == 3 })
		if got := r.metric("herald_logger_holes_total"); got != found {
			t.Errorf("after %d restarts: this process found %v holes, want %v", restarts, got, found)
		}
		r.stop()
	}
}

// A forgetful NATS: the first pull is lost, as after a leader change. The
// consumer is there, messages wait, none comes.
type (
	forgetfulJS       struct{ jetstream.JetStream }
	forgetfulStream   struct{ jetstream.Stream }
	forgetfulConsumer struct{ jetstream.Consumer }
	lostPull          struct {
		jetstream.ConsumeContext
		stopped chan struct{}
		end     *sync.Once
	}
)

func (f forgetfulJS) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := f.JetStream.Stream(ctx, name)
	return forgetfulStream{s}, err
}

func (f forgetfulStream) CreateConsumer(ctx context.Context, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := f.Stream.CreateConsumer(ctx, cfg)
	return forgetfulConsumer{c}, err
}

func (forgetfulConsumer) Consume(jetstream.MessageHandler, ...jetstream.PullConsumeOpt) (jetstream.ConsumeContext,
	error) {
	return lostPull{stopped: make(chan struct{}), end: new(sync.Once)}, nil
}

func (l lostPull) Closed() <-chan struct{} { return l.stopped }
func (l lostPull) Stop()                   { l.end.Do(func() { close(l.stopped) }) }
func (l lostPull) Drain()                  { l.Stop() }

func TestStalledPullIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.publish(1, 200)
	w.broker = func(js jetstream.JetStream) jetstream.JetStream { return forgetfulJS{js} }
	r := w.startReady()
	r.checkComplete(w.epoch, 200)
	if got := r.metric("herald_logger_stalls_total"); got == 0 { // on a busy machine the next pull may stall as well
		t.Errorf("stalls: got %v, want one at least", got)
	}
}

// The lag is that of the stream, too: a message that NATS does not deliver is as
// late as one that waits for the disk.
func TestLagOfWhatIsNotDelivered(t *testing.T) {
	w := newWorld(t)
	w.publish(1, 1)
	w.broker = func(js jetstream.JetStream) jetstream.JetStream { return forgetfulJS{js} }
	w.timing.stall, w.timing.ackWait = time.Hour, time.Hour
	r := w.start()
	r.eventually("the lag grows", func() bool { return r.metric("herald_logger_lag_seconds") > 0.2 })
	r.stop()
}
