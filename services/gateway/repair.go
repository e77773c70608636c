package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/retry"
)

// check reads the stream's state. If messages were lost, or the stream was made anew, it
// starts the feed over and resets all clients; if the stream is ahead, it fetches the missing packs; if
// the stream is behind, the next tick asks again. It takes 2.5 s at most.
func (f *feed) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, canaryLate/2) // the canary waits meanwhile
	defer cancel()
	info, err := f.stream.Info(ctx)
	if err != nil {
		f.log.Debug("the stream does not answer", "err", err)
		f.pulse.Missed(err)
		return
	}
	if !f.pulse.Answered(info.Cluster) {
		f.doubt = true
		return
	}
	state := natsx.StateOf(info)
	f.settled = state.Epochs.Covers(f.nc)
	f.maxAge.Store(int64(info.Config.MaxAge))
	if state.Last >= f.at {
		f.behind = time.Time{}
	} else if f.behind.IsZero() {
		f.behind = time.Now()
	}
	switch {
	case !state.Epochs.Same(*f.epochs.Load(), f.at):
		f.log.Warn("the stream was made anew, or lost its newest messages; clients are told to start over", "stream",
			proto.Stream, "epoch", state.Epochs.Newest())
		f.m.lost.Inc()
		f.begin(state, true)
	case state.Last < f.at && time.Since(f.behind) >= patienceWith(state):
		f.log.Error("the stream has lost its newest messages; clients are told to start over", "stream", proto.Stream,
			"seq", state.Last+1, "upto", f.at)
		f.m.lost.Inc()
		f.begin(f.requestEpoch(ctx, state), true)
	case state.Last < f.at:
		f.doubt = true // the next tick asks again
	default:
		f.epochs.Store(&state.Epochs) // another may have begun behind at
		if state.Last > f.at {
			// Perhaps they are in the queue already: they will be dropped as known.
			f.repair(ctx, state.Last)
		}
	}
}

// requestEpoch has ingest begin another epoch, because the stream ends before
// something that was handed on. While no ingest is there, nothing of Herald's is
// stored either.
func (f *feed) requestEpoch(ctx context.Context, state natsx.State) natsx.State {
	if err := natsx.ReportLoss(ctx, f.nc, state.Epochs.Newest(), f.at); err != nil {
		f.log.Warn("nobody begins another epoch for a stream that has lost messages; is ingest running?", "err", err)
		return state
	}
	if now, err := f.reader.State(ctx); err == nil {
		return now
	}
	return state
}

// epochWait is how long ingest may take to begin an epoch for a server that
// was started anew. It does so before it publishes, so that only messages of
// others can come meanwhile.
const epochWait = 3 * time.Second

// switchServer finds out whether the connection now leads to another nats-server process.
// If so it drops the messages of the old one that are still queued (they may be lost
// there, and what is not is repaired from the stream), waits up to epochWait for the epoch of what
// the new one stores, calls check, and returns true.
func (f *feed) switchServer(ctx context.Context) bool {
	process := f.nc.ConnectedServerId()
	if process == f.process || process == "" { // not connected
		return false
	}
	for len(f.live) > 0 {
		<-f.live
	}
	f.process = process
	wait, cancel := context.WithTimeout(ctx, epochWait)
	defer cancel()
	// fails only when wait ends
	_ = retry.Policy{Pause: 20 * time.Millisecond}.Until(wait, func(ctx context.Context) error {
		state, err := f.reader.State(ctx)
		if err == nil && !state.Epochs.Covers(f.nc) {
			err = errNoEpoch
		}
		return err
	})
	f.doubt = true // if the stream does not answer now, the next tick asks it
	f.check(ctx)
	return true
}

// patienceWith is how long a stream must report an end before a message that it handed out,
// until the feed considers that a loss. In a cluster a server that was cut
// off may answer, or a leader that still catches up; a single server was
// restored from a backup, or lost its last writes in a power cut.
func patienceWith(state natsx.State) time.Duration {
	if state.Alone {
		return tickEvery / 2
	}
	return natsx.StreamLate
}

// repair reads what is stored after f.at up to upTo, and hands it on. It
// returns when that is done, when the stream does not go as far, or when ctx
// ended. Clients get a gap frame for what retention deleted meanwhile.
func (f *feed) repair(ctx context.Context, upTo uint64) {
	again := retry.Policy{Pause: 20 * time.Millisecond, Most: time.Second, Log: func(err error) {
		f.log.Debug("could not read from the stream; trying again", "err", err)
	}}
	_ = again.Until(ctx, func(ctx context.Context) error { // fails only when ctx ends
		for f.at < upTo && ctx.Err() == nil {
			err := f.repairPage(ctx, upTo)
			if errors.Is(err, errBeyond) {
				f.log.Warn("a NATS message bears a sequence that the stream has not reached; is somebody "+
					"publishing under "+proto.SubjectLive+"?", "seq", upTo)
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// errNoEpoch: no epoch has begun for the server process that the connection has reached.
var errNoEpoch = errors.New("no epoch has begun for this server yet")

// errBeyond: the stream has not stored that many messages.
var errBeyond = errors.New("beyond the end of the stream")

func (f *feed) repairPage(ctx context.Context, upTo uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	state, err := f.reader.State(ctx)
	if err != nil {
		return err
	}
	// The stream is read as far as it goes: upTo may be invented.
	end := min(upTo, state.Last)
	if end <= f.at {
		return errBeyond
	}
	run, err := f.reader.Packs(ctx, f.at+1, end)
	if err != nil {
		return err
	}
	if run.Missing > 0 {
		if run.Why == natsx.Damaged {
			f.log.Error("the stream is damaged: messages that it stored are gone; clients are told", "seq", f.at+1,
				"upto", run.Missing)
			f.m.damaged.Add(float64(run.Missing - f.at))
		} else {
			f.log.Warn("messages expired before this gateway could fetch them; clients are told", "seq", f.at+1, "upto",
				run.Missing)
			f.m.lost.Inc()
		}
		f.hub.Gap(proto.EndOf(f.at), proto.EndOf(run.Missing), run.Why)
		f.pass(run.Missing)
	}
	for i := range run.Packs {
		f.publish(&run.Packs[i], "fetched")
	}
	return nil
}
