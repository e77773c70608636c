package logger

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishPack stores n messages as one pack.
func (w *world) publishPack(first, n int) {
	w.Helper()
	var pack proto.Pack
	for i := range n {
		m := proto.Message{Channel: "packed", Event: "message", Data: fmt.Append(nil, first+i), Sender: "shop",
			Time: proto.FormatTime(time.Now())}
		pack.Add(&m, proto.Private{Source: "203.0.113.7", Accepted: time.Now()})
	}
	if _, err := w.js.PublishMsg(context.Background(), &nats.Msg{Subject: proto.SubjectPacks,
		Data: pack.Body()}); err != nil {
		w.Fatal(err)
	}
}

// Packs become rows in their order, each message once, beside messages that
// somebody published by their channel; a pack that is lost is one hole. A consumer
// of before there were packs, which sees single messages only, is changed.
func TestPacksAreLogged(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	stream, err := w.js.Stream(ctx, proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: durable,
		AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: proto.SubjectStored + ">"}); err != nil {
		t.Fatal(err)
	}
	w.publishPack(0, 1024)
	w.publish(2, 1)
	w.publishPack(1024, 3)
	w.publishPack(2000, 10) // is lost
	w.publishPack(1027, 1)
	if err := stream.DeleteMsg(ctx, 4); err != nil {
		t.Fatal(err)
	}
	r := w.startReady()
	r.eventually("all rows are there", func() bool { return r.count() == 1029 })
	var got []string
	err = r.store.Export(ctx, Filter{Asc: true, Channel: "packed"}, func(row *Row) error {
		got = append(got, row.Message)
		if want := len(got); row.Seq != proto.Number(map[bool]uint64{true: 1, false: 3}[want <= 1024], (want-1)%1024) &&
			want <= 1027 {
			t.Errorf("row %d is %s", want, row.ID())
		}
		return nil
	})
	if err != nil || len(got) != 1028 {
		t.Fatalf("got %d rows, %v", len(got), err)
	}
	for i, data := range got {
		if data != fmt.Sprint(i) {
			t.Fatalf("row %d: got %s", i, data)
		}
	}
	natstest.Eventually(t, 30*time.Second, "the lost pack is counted",
		func() bool { return r.metric("herald_logger_holes_total") == 1 })
	w.publishPack(1028, 2)
	r.eventually("it goes on", func() bool { return r.count() == 1031 })
	r.eventually("everything is acknowledged", func() bool { return r.metric("herald_logger_pending_messages") == 0 })
}
