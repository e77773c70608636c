package natsx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// subjectLoss is where whoever has seen more of the stream than there is says
// so, and is answered once another epoch has begun.
const subjectLoss = "herald.loss"

// subjectRenewed is where the ingest that has begun another epoch for that reason says so
// to the others.
const subjectRenewed = "herald.loss.renewed"

// loss is what was seen.
type loss struct {
	Epoch string `json:"epoch"` // the newest that the stream has
	Seq   uint64 `json:"seq"`   // a stream sequence that it had reached
}

// lossWait is how long the one who reports waits for an answer.
const lossWait = 3 * time.Second

// ReportLoss says that the stream, whose newest epoch this is, ends before
// seq, which was stored, and waits until another epoch has begun. While no
// ingest runs the error is nats.ErrNoResponders, at once.
func ReportLoss(ctx context.Context, nc *nats.Conn, epoch string, seq uint64) error {
	b, err := json.Marshal(loss{epoch, seq})
	if err != nil {
		return fmt.Errorf("report a loss: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lossWait)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, subjectLoss, b)
	if err != nil {
		return fmt.Errorf("report a loss: %w", err)
	}
	if len(answer.Data) > 0 {
		return errors.New("report a loss: " + string(answer.Data))
	}
	return nil
}

// ServeLosses has this process, which declares the stream, begin another epoch
// when somebody reports a loss that the stream's leader confirms. renewed is called
// when one has begun, here or in another process: the ids of what is stored from now on are
// of that one. In this process that is before the one who reports is answered. stop ends it.
func ServeLosses(nc *nats.Conn, js jetstream.JetStream, cfg func() StreamConfig, log *slog.Logger,
	renewed func(context.Context)) (stop func(), err error) {
	reader := NewReader(nc, nil)
	reports, err := nc.QueueSubscribe(subjectLoss, "ingest", func(m *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), lossWait)
		defer cancel()
		var l loss
		err := json.Unmarshal(m.Data, &l)
		var state State
		if err == nil {
			state, err = reader.State(ctx)
		}
		if err == nil && state.Epochs.Newest() == l.Epoch && state.Last < l.Seq {
			log.Error("the stream has lost messages that it had stored; ids are of another epoch from now on", "seq",
				state.Last+1, "upto", l.Seq)
			if _, err = RenewEpoch(ctx, js, cfg(), l.Epoch); err == nil {
				renewed(ctx)
				err = nc.Publish(subjectRenewed, nil)
			}
		}
		var text []byte
		if err != nil {
			log.Warn("no epoch can be begun for a stream that has lost messages", "err", err)
			text = []byte(err.Error())
		}
		_ = m.Respond(text) // fails while NATS is away; then it is reported again
	})
	if err != nil {
		return nil, err
	}
	others, err := nc.Subscribe(subjectRenewed, func(*nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), lossWait)
		defer cancel()
		renewed(ctx)
	})
	if err != nil {
		_ = reports.Unsubscribe()
		return nil, err
	}
	return func() { // fails on a closed connection only
		_ = reports.Unsubscribe()
		_ = others.Unsubscribe()
	}, nil
}
