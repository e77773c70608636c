package logger

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go/jetstream"
)

// batch collects messages, commits them, then acknowledges them, until ctx
// ends or the session is over. It alone holds the batch.
func (s *attachment) batch(ctx context.Context, pull jetstream.ConsumeContext, in *intake) error {
	tick := time.NewTicker(s.timing.check)
	defer tick.Stop()
	if err := s.check(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			s.drain(ctx, pull, in)
			return ctx.Err()
		case <-tick.C:
			if err := s.check(ctx); err != nil {
				return err
			}
		case m := <-in.messages:
			s.commit(ctx, s.collect(m, in))
		case <-in.ended:
			return errPullEnded
		case <-in.other:
			s.drain(ctx, pull, in)
			return errMoved
		}
	}
}

// drainWait is how long what NATS has sent already may take to be logged at
// the end. What is left comes again after the next start.
const drainWait = 2 * time.Second

// flushWait is how long the last acknowledgements may take to reach NATS. A message whose
// acknowledgement does not is delivered again, and its row is found to exist.
const flushWait = 5 * time.Second

// drain stops asking and logs what was delivered: left alone, it would come
// again only after ackWait.
func (s *attachment) drain(ctx context.Context, pull jetstream.ConsumeContext, in *intake) {
	pull.Drain()
	late := time.NewTimer(drainWait)
	defer late.Stop()
	for ended := in.ended; ; {
		select {
		case m := <-in.messages:
			s.commit(ctx, s.collect(m, in))
			continue
		default:
		}
		if ended == nil {
			return // and nothing is left
		}
		select {
		case m := <-in.messages:
			s.commit(ctx, s.collect(m, in))
		case <-ended:
			ended = nil
		case <-late.C:
			return
		}
	}
}

// collect waits for more messages until the batch is full, batchWait is over,
// or no more can come.
func (s *attachment) collect(first jetstream.Msg, in *intake) []jetstream.Msg {
	s.pulse.Alive()
	if meta, err := first.Metadata(); err == nil {
		s.metrics.oldest.Store(meta.Timestamp.UnixNano())
	}
	batch := append(make([]jetstream.Msg, 0, 1+len(in.messages)), first)
	size, rows := len(first.Data()), messages(first)
	t := time.NewTimer(batchWait)
	defer t.Stop()
	for ended := in.ended; rows < batchRows && size < batchBytes; {
		select {
		case m := <-in.messages:
			batch = append(batch, m)
			size += len(m.Data())
			rows += messages(m)
			continue
		default:
		}
		if ended == nil {
			break
		}
		select {
		case m := <-in.messages:
			batch = append(batch, m)
			size += len(m.Data())
			rows += messages(m)
		case <-t.C:
			return batch
		case <-ended:
			ended = nil
		}
	}
	return batch
}

// messages is about how many messages are in a pack.
func messages(m jetstream.Msg) int { return max(1, bytes.Count(m.Data(), []byte{'\n'})) }

// commit writes a batch and acknowledges it. While that cannot be done it
// holds the batch and tries again; when ctx ends before, NATS keeps it.
func (s *attachment) commit(ctx context.Context, batch []jetstream.Msg) {
	rows, left := s.rows(batch)
	for looked := time.Now(); ; {
		begin := time.Now()
		// Not interrupted by ctx: the last batch is committed, too.
		inserted, err := s.store.Append(context.WithoutCancel(ctx), rows)
		s.note(explain(err))
		if err == nil {
			s.metrics.commit.Observe(time.Since(begin).Seconds())
			s.metrics.batch.Observe(float64(len(rows)))
			s.metrics.rows.Add(float64(inserted))
			s.metrics.redeliveries.Add(float64(len(rows) - inserted))
			s.metrics.pending.Set(float64(left))
			s.metrics.oldest.Store(0)
			s.logRows(ctx, rows)
			break
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(looked) >= s.timing.check { // the stream grows meanwhile
			_, _ = s.look(ctx)
			looked = time.Now()
		}
		_ = retry.Pause(ctx, s.timing.retry) // and try once more, also when ctx has ended
	}
	for _, m := range batch {
		if err := m.Ack(); err != nil { // the connection is away: they come again
			s.log.Debug("batch not acknowledged", "err", err)
			return
		}
	}
	if ctx.Err() != nil { // the last batch: its acknowledgements are flushed before the connection is closed
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
		defer cancel()
		if err := s.nc.FlushWithContext(flush); err != nil {
			s.log.Debug("last batch not acknowledged", "err", err)
		}
	}
}

// logRows writes a line for each message at level debug, with the id that publishers and clients know, so that
// an operator can follow one message.
func (s *attachment) logRows(ctx context.Context, rows []store.Row) {
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for _, r := range rows {
		s.log.Debug("message logged", "channel", r.Channel, "id", proto.Cursor{Epoch: r.Epoch, Seq: r.Seq}.String())
	}
}

// rows makes the rows of a batch. left is how many packs the stream had after
// the last one when it was delivered.
func (s *attachment) rows(batch []jetstream.Msg) (rows []store.Row, left uint64) {
	rows = make([]store.Row, 0, max(len(batch), batchRows))
	for _, m := range batch {
		meta, err := m.Metadata()
		if err != nil { // no message of a consumer: there is no sequence to store it by
			s.log.Error("message without a sequence ignored", "err", err)
			continue
		}
		seq, foreign := meta.Sequence.Stream, 0
		rows, foreign = appendRows(rows, s.epochs.At(seq), stored{subject: m.Subject(), header: m.Headers(),
			body: m.Data(), seq: seq, time: meta.Timestamp})
		if foreign > 0 {
			s.metrics.foreign.Add(float64(foreign))
			s.log.Debug("foreign message logged as it is", "subject", m.Subject(), "seq", seq)
		}
		left = meta.NumPending
	}
	return rows, left
}

// note keeps readiness and the gauge true, and reports a change once.
func (c *consumer) note(err error) {
	full := 0.0
	if errors.Is(err, store.ErrFull) {
		full = 1
	}
	c.metrics.diskFull.Set(full)
	reason := store.Reason(err)
	for _, r := range store.Reasons() {
		is := 0.0
		if r == reason {
			is = 1
		}
		c.metrics.unwritable.WithLabelValues(r).Set(is)
	}
	var now *error
	if err != nil {
		now = &err
	}
	was := c.broken.Swap(now)
	switch {
	case err != nil && (was == nil || (*was).Error() != err.Error()):
		c.log.Warn("the log cannot be written; messages wait in the stream", "reason", reason, "err", err)
	case was != nil && err == nil:
		c.log.Info("the log can be written again")
	}
}
