package gateway

import (
	"context"
	"time"
)

// endEvery is how often the stream's end is read. A gateway that is behind for
// longer shows in herald_gateway_behind_messages.
const endEvery = 5 * time.Second

// watchEnd reads how far the stream goes until ctx ends. The feed asks by
// itself only while it is quiet. The distance is what the stream had at that time and the feed
// has not handed on since, so messages on their way do not count, and gateways
// need not be compared with each other.
func (f *feed) watchEnd(ctx context.Context) {
	tick := time.NewTicker(endEvery)
	defer tick.Stop()
	for {
		if f.started.Load() {
			f.readEnd(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *feed) readEnd(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endEvery)
	defer cancel()
	if state, err := f.reader.State(ctx); err == nil { // else herald_stream_reachable tells
		f.m.end.Set(float64(state.Last))
	}
}

// reachable says why the stream does not answer; nil means that it does.
func (f *feed) reachable() error {
	if !f.started.Load() {
		return errNoStream
	}
	return f.pulse.Err()
}
