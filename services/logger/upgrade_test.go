package logger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go/jetstream"
)

// A stream of the time before packs gets another epoch. What of it is in the
// log, under the epoch of its creation, is not logged once more; what is not in
// the log yet is.
func TestLogOfAStreamFromBeforePacks(t *testing.T) {
	const logged, waiting = 5, 3
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := &world{TB: t, nats: natstest.Start(t), timing: quick}
	w.nc = w.nats.Connect()
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: proto.Stream, Subjects: []string{proto.SubjectStored + ">"}, AllowDirect: true, AllowMsgTTL: true,
		RePublish: &jetstream.RePublish{Source: proto.SubjectStored + ">", Destination: "herald.live.>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	created := proto.EpochOf(stream.CachedInfo().Created)
	for n := 1; n <= logged+waiting; n++ {
		body := fmt.Sprintf(
			`{"channel":"orders","event":"message","data":%d,"sender":"shop","time":"2026-11-22T16:58:36.123Z"}`, n)
		if _, err := js.Publish(ctx, proto.SubjectStored+"orders", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: durable,
		AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "herald.db")
	log, err := store.Open(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= logged; n++ {
		row := store.Row{Message: fmt.Sprint(n), Sender: "shop", Timestamp: "2026-11-22T16:58:36.123Z",
			Channel: "orders", Event: "message", Epoch: created, Seq: n}
		if _, err := log.Append(ctx, []store.Row{row}); err != nil {
			t.Fatal(err)
		}
		msg, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := msg.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", file) // accounts were kept in messages then
	if err == nil {
		_, err = db.Exec("UPDATE epochs SET first = 1, accounted = ?, holes = 0", logged)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}

	w.js, w.epoch = w.nats.Stream(w.nc) // the upgrade
	if w.epoch == created {
		t.Fatal("the stream kept its epoch, though its ids mean something else now")
	}
	if w.keys, err = keystore.Make(ctx, w.js, 1); err != nil {
		t.Fatal(err)
	}
	w.cfg = DefaultConfig()
	w.cfg.Listen, w.cfg.DB, w.cfg.APIKey = "127.0.0.1:0", file, envKey
	for range 2 { // the second start finds the account of the first
		r := w.startReady()
		r.eventually("what waited is logged", func() bool { return r.count() >= logged+waiting })
		r.eventually("all is acknowledged", func() bool { return r.metric("herald_logger_pending_messages") == 0 })
		if got, holes := r.count(), r.metric("herald_logger_missing_messages"); got != logged+waiting || holes != 0 {
			t.Errorf("rows: got %d and %v holes, want each of %d messages once", got, holes, logged+waiting)
		}
		r.stop()
	}
}
