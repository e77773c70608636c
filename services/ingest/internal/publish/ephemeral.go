package publish

import "github.com/herald-push/herald/proto"

// addLive puts an ephemeral message into the pack that is sent to the live
// subject at the next pushLive, or when it is full. It shares packs with those that
// come before that.
func (l *lane) addLive(m *proto.Message, private proto.Private) *flight {
	l.mu.Lock()
	var full *flight
	m.Time = l.clock.text(private.Accepted)
	if l.live != nil && !l.live.pack.HasRoom(m, l.maxPack()) {
		full, l.live = l.live, nil
	}
	if l.live == nil {
		l.live = l.newFlight(private.Accepted)
	}
	f := l.live
	private.Source = "" // it is for the log, which has no ephemeral messages
	f.pack.Add(m, private)
	f.refs.Add(1)
	l.mu.Unlock()
	if full != nil {
		l.publishLive(full)
	}
	return f
}

// pushLive sends the pack, unless it was sent already.
func (l *lane) pushLive(f *flight) {
	l.mu.Lock()
	mine := l.live == f
	if mine {
		l.live = nil
	}
	l.mu.Unlock()
	if mine {
		l.publishLive(f)
	}
}

// publishLive publishes a pack that gets no more messages. Without a reconnect
// buffer (natsx.Connect) that fails at once while NATS is away, instead of keeping
// for later what is for now only.
func (l *lane) publishLive(f *flight) {
	f.msg.Reply = ""
	f.seal(proto.SubjectLivePacks, "", nil)
	f.err = l.publish(f)
	close(f.done)
	l.release(f)
}
