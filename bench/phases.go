//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/herald-push/herald/proto"
)

// nobody is a channel that no client follows.
const nobody = "public.nobody"

// own is the channel of one client alone.
func own(client int) string { return fmt.Sprintf("public.u%05d", client) }

// blocks are in how many parts loads are sent that are compared with each other:
// they take turns, so that whatever else the machine does hits all of them.
const blocks = 4

// block is one part of a load to a channel.
func (s *scale) block(channel func(i int) string) load {
	return load{messages: max(1, s.load/blocks), perSecond: loadPerSecond, burst: 1, channel: channel}
}

func toNobody(int) string { return nobody }

// receiving measures what a message costs that goes to all gateways and to no
// client. NATS pays for storing it and for passing it to each gateway; the latter is
// the difference between messages that are not stored, with gateways that listen
// and without.
func (s *scale) receiving(ctx context.Context) error {
	before, err := s.liveAll(ctx)
	if err != nil {
		return err
	}
	l := s.block(toNobody)
	if s.bill.wire, err = s.wireBytes(ctx); err != nil {
		return err
	}
	var stored, passed, unheard share
	for range blocks {
		for _, part := range []struct {
			into *share
			send func() error
		}{
			{&stored, func() error { return s.broker.publish(ctx, l) }},
			{&passed, func() error { return s.broker.pass(ctx, l, proto.LiveSubject("")) }},
			{&unheard, func() error { return s.broker.pass(ctx, l, "bench.") }},
		} {
			used, _, err := s.spend(part.send)
			if err != nil {
				return err
			}
			*part.into = part.into.plus(used)
		}
	}
	after, err := s.liveAll(ctx)
	n, gateways := float64(blocks*l.messages), float64(len(s.gateways))
	s.bill.relay = (passed.nats.sum() - unheard.nats.sum()) / n / gateways
	s.bill.store = stored.nats.sum()/n - max(0, s.bill.relay)*gateways
	s.bill.receive = stored.gateways.sum() / n / gateways
	s.bill.recent = (after - before) / n / gateways
	return err
}

// wireBytes stores one message and returns its size as a gateway gets it, with the
// headers that NATS adds when it republishes.
func (s *scale) wireBytes(ctx context.Context) (float64, error) {
	sub, err := s.broker.nc.SubscribeSync(proto.LiveSubject(nobody))
	if err != nil {
		return 0, fmt.Errorf("size of a message: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // it ends with the connection at the latest
	if err := s.broker.publish(ctx, load{messages: 1, perSecond: loadPerSecond, burst: 1, channel: toNobody}); err != nil {
		return 0, err
	}
	m, err := sub.NextMsg(30 * time.Second)
	if err != nil {
		return 0, fmt.Errorf("size of a message: %w", err)
	}
	return float64(m.Size()), nil
}

// liveAll is the heap and stacks of all gateways.
func (s *scale) liveAll(ctx context.Context) (all float64, err error) {
	for _, v := range s.gateways {
		live, err := v.live(ctx)
		if err != nil {
			return 0, err
		}
		all += live
	}
	return all, nil
}

// resting lets NATS drop its cache of what was just stored, which it does after
// ten seconds, so that this does not count as memory that connections saved.
func (s *scale) resting(ctx context.Context) error { return pause(ctx, s.rest) }

// pause returns after d, or with the reason why not.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// connecting lets all clients come at once, each with an address of its own, to
// the channel that all follow and one of its own.
func (s *scale) connecting(ctx context.Context) error {
	n := s.scalePlan.clients
	var parts []*crowd
	for i, v := range s.gateways {
		first := n * i / len(s.gateways)
		q := v.squad(n*(i+1)/len(s.gateways)-first, everybody+"&channel=public.u{n}", false)
		q.first, q.share = first, 1
		part, err := s.muster(q, true)
		if err != nil {
			joined(parts...).dismiss()
			return err
		}
		parts = append(parts, part)
	}
	s.clients = joined(parts...)
	s.unhook = context.AfterFunc(ctx, func() { // so that nobody waits for an answer of theirs
		for _, q := range s.clients.squads {
			_ = q.cmd.Process.Kill() // it may have ended
		}
	})

	b := s.bill
	if err := b.without.take(ctx, s); err != nil {
		return err
	}
	var err error
	b.lonely = min(n, lonelySockets)
	if b.end, err = s.oneEnd(b.lonely); err != nil {
		return err
	}
	if b.without.kernel, err = readKernel(); err != nil {
		return err
	}
	if b.handshakes, _, err = s.spend(func() (err error) {
		b.connect, err = s.clients.connect("")
		return err
	}); err != nil {
		return err
	}
	rushed, err := s.residentNow()
	b.rush = (rushed - b.without.gateways) / float64(n)
	b.shake = b.handshakes.gateways.sum() / float64(n)
	b.processes = len(s.clients.squads)
	return err
}

// memory is what everything takes at one time, in bytes.
type memory struct {
	gateways, gatewaysLive float64 // resident; of that, heap and stacks in use
	natsLive               float64
	subscriptions          int // of NATS
	kernel                 kernel
}

func (m *memory) take(ctx context.Context, s *scale) (err error) {
	if m.gatewaysLive, err = s.liveAll(ctx); err != nil {
		return err
	}
	if m.gateways, err = s.resident(ctx); err != nil {
		return err
	}
	if m.natsLive, err = s.nats.live(ctx); err != nil {
		return err
	}
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	m.subscriptions = state.Subscriptions
	m.kernel, err = readKernel()
	return err
}

// weighing is done when the clients have been there for a while: the runtime gives
// back what the rush took at its own pace.
func (s *scale) weighing(ctx context.Context) error {
	b, n := s.bill, float64(s.scalePlan.clients)
	if err := b.with.take(ctx, s); err != nil {
		return err
	}
	b.pair = b.with.kernel.minus(b.without.kernel)
	b.conn = (b.with.gateways - b.without.gateways) / n
	b.live = (b.with.gatewaysLive - b.without.gatewaysLive) / n
	// Inodes and names of files can be reclaimed, and those of other programs come
	// and go meanwhile. Both ends have the same, so these are taken from the lonely
	// sockets, which are made in a moment.
	lonely := float64(b.lonely)
	b.costs.kernel = b.pair.pinned/n - b.end.pinned/lonely + (b.end.slab-b.end.pinned)/lonely
	return nil
}

// residentNow is the gateways' memory as it is.
func (s *scale) residentNow() (all float64, err error) {
	for _, v := range s.gateways {
		rss, err := rssOf(v.pid())
		if err != nil {
			return 0, err
		}
		all += float64(rss)
	}
	return all, nil
}

// sitting measures heartbeats: nothing else happens.
func (s *scale) sitting(ctx context.Context) error {
	n := s.scalePlan.clients
	before, err := s.clients.obey(order{Do: "count"})
	if err != nil {
		return err
	}
	used, took, err := s.spend(func() error { return pause(ctx, s.window) })
	if err != nil {
		return err
	}
	after, err := s.clients.obey(order{Do: "count"})
	if err != nil {
		return err
	}
	pings := after.Pings - before.Pings
	if after.Connected != n || pings < int64(n) {
		return fmt.Errorf("%d of %d clients are still there, and %d pings came within %s, want one for each at least", after.Connected, n, pings, took)
	}
	b := s.bill
	b.sitting, b.beats = used.per(took.Seconds()), float64(pings)/took.Seconds()
	b.idle = b.sitting.gateways.sum() / float64(n)
	b.beat = b.sitting.gateways.sum() / b.beats
	return nil
}

// broadcasting sends one message after the other to all. Each client must get
// each once.
func (s *scale) broadcasting(ctx context.Context) error {
	n := s.scalePlan.clients
	one := load{messages: 1, perSecond: loadPerSecond, burst: 1, channel: func(int) string { return everybody }}
	if err := s.warm(ctx, s.clients, one, 1); err != nil {
		return err
	}
	var sum share
	for range s.broadcasts {
		if _, err := s.clients.obey(order{Do: "reset"}); err != nil {
			return err
		}
		var got tally
		used, took, err := s.spend(func() (err error) {
			if err := s.broker.publish(ctx, one); err != nil {
				return err
			}
			got, err = s.clients.await(ctx, 1)
			return err
		})
		if err != nil {
			return err
		}
		if got.Messages != int64(n) {
			return fmt.Errorf("%d clients got one message %d times", n, got.Messages)
		}
		sum = sum.plus(used.above(s.bill.sitting, took))
		s.bill.last = append(s.bill.last, got.Latency.percentile(1))
		s.bill.frame = float64(got.ReadBytes)
	}
	s.bill.broadcast = sum.per(float64(s.broadcasts))
	s.bill.deliver = s.bill.broadcast.gateways.sum() / float64(n)
	return nil
}

// trickling sends messages to clients all over, at most one to each. Those of one
// block all go to clients of one gateway, so that what it does more than the others,
// in the same time, is what a message costs that has a client.
func (s *scale) trickling(ctx context.Context) error {
	n, gateways := s.scalePlan.clients, len(s.gateways)
	visits := (blocks + gateways - 1) / gateways // of each gateway
	l := s.block(nil)
	l.messages = max(1, min(l.messages, n/gateways/visits))
	apart := n / gateways / (visits * l.messages)
	groups := [][]*process{{s.broker.nats}}
	for _, v := range s.gateways {
		groups = append(groups, []*process{v.process})
	}
	if _, err := s.clients.obey(order{Do: "reset"}); err != nil {
		return err
	}
	var single float64
	for block := range blocks {
		turn := block % gateways
		first, visit := n*turn/gateways, block/gateways
		l.channel = func(i int) string { return own(first + (visit*l.messages+i)*apart) }
		sum := int64((block + 1) * l.messages)
		var got tally
		each, took, err := s.spentEach(groups, s.clients, func() (err error) {
			if err := s.broker.publish(ctx, l); err != nil {
				return err
			}
			got, err = s.clients.until(ctx, func(t *tally) bool { return t.Messages >= sum })
			return err
		})
		if err != nil {
			return err
		}
		if got.Messages != sum {
			return fmt.Errorf("of %d messages to one client each %d came", sum, got.Messages)
		}
		all := share{nats: each[0]}
		for _, c := range each[1:] {
			all.gateways = all.gateways.plus(c)
		}
		s.bill.trickle = s.bill.trickle.plus(all.above(s.bill.sitting, took))
		its := each[1+turn].sum()
		single += its - (all.gateways.sum()-its)/float64(gateways-1)
	}
	messages := float64(blocks * l.messages)
	s.bill.trickle, s.bill.single = s.bill.trickle.per(messages), single/messages
	return nil
}
