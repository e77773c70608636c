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

// SubjectRenewed is where the ingest that has begun another epoch, because messages are lost or may be, says so
// to the other ingests and to gateways, before it publishes anything.
const SubjectRenewed = "herald.loss.renewed"

// subjectKnown is where an ingest that starts asks who knows the stream how far it had got.
const subjectKnown = "herald.loss.known"

// knownWait is how long it waits for answers. Who runs answers within milliseconds.
const knownWait = time.Second

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
				err = TellRenewed(nc)
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
	others, err := nc.Subscribe(SubjectRenewed, func(*nats.Msg) {
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

// TellRenewed says that another epoch has begun.
func TellRenewed(nc *nats.Conn) error { return nc.Publish(SubjectRenewed, nil) }

// Known is how far those who run have seen the stream to get.
type Known []loss

// AskKnown asks all services that know the stream how far it has got, and takes knownWait.
// An ingest that starts in a cluster does so: whether all servers were restored from older copies nobody else can
// tell it.
func AskKnown(ctx context.Context, nc *nats.Conn) (known Known, err error) {
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask how far the stream has got: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // fails on a closed connection only
	if err := nc.PublishRequest(subjectKnown, inbox, nil); err != nil {
		return nil, fmt.Errorf("ask how far the stream has got: %w", err)
	}
	wait, cancel := context.WithTimeout(ctx, knownWait)
	defer cancel()
	for {
		m, err := answers.NextMsgWithContext(wait)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case wait.Err() != nil, errors.Is(err, nats.ErrNoResponders):
			return known, nil
		default:
			return nil, fmt.Errorf("ask how far the stream has got: %w", err)
		}
		var l loss
		if json.Unmarshal(m.Data, &l) == nil && l.Epoch != "" {
			known = append(known, l)
		}
	}
}

// Last is the newest stream sequence that is known of the stream whose newest epoch this is; 0: none.
func (k Known) Last(epoch string) (seq uint64) {
	for _, l := range k {
		if l.Epoch == epoch {
			seq = max(seq, l.Seq)
		}
	}
	return seq
}

// ServeKnown answers AskKnown. known returns the newest epoch, and a stream sequence that was
// reached; an empty epoch is not answered. It must not be what was only read from the stream, which may be an older
// copy of what it was. stop ends it.
func ServeKnown(nc *nats.Conn, known func() (epoch string, seq uint64)) (stop func(), err error) {
	asked, err := nc.Subscribe(subjectKnown, func(m *nats.Msg) {
		epoch, seq := known()
		if b, err := json.Marshal(loss{epoch, seq}); err == nil && epoch != "" {
			_ = m.Respond(b) // fails while NATS is away; nobody waits then
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = asked.Unsubscribe() }, nil // fails on a closed connection only
}
