//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
)

// blocks are in how many parts loads are sent that are compared with each other:
// they alternate, so that other load on the machine affects all of them.
const blocks = 4

// block is one part of a load.
func (s *scale) block(channel func(i int) string) load {
	return load{messages: max(1, s.load/blocks), perSecond: loadPerSecond, burst: 1, channel: channel}
}

// receiving measures what a message costs that goes to all gateways and to no
// client. NATS pays for storing it and for passing it to each gateway; the latter is
// the difference between messages that are not stored, on subjects that gateways follow
// and on others.
func (s *scale) receiving(ctx context.Context) error {
	const nobody = "public.nobody"
	before, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	if s.costs["wire"], err = s.wireBytes(ctx, nobody); err != nil {
		return err
	}
	l := s.block(func(int) string { return nobody })
	var stored, passed, unfollowed share
	for range blocks {
		for _, part := range []struct {
			into *share
			send func() error
		}{
			{&stored, func() error { return s.broker.publish(ctx, l) }},
			{&passed, func() error { return s.broker.pass(ctx, l, proto.LiveSubject("")) }},
			{&unfollowed, func() error { return s.broker.pass(ctx, l, "bench.") }},
		} {
			used, _, err := s.spend(part.send)
			if err != nil {
				return err
			}
			*part.into = part.into.plus(used)
		}
	}
	after, err := s.weigh(ctx)
	n, gateways := float64(blocks*l.messages), float64(len(s.gateways))
	s.costs["relay"] = (passed.nats.sum() - unfollowed.nats.sum()) / n / gateways
	s.costs["store"] = stored.nats.sum()/n - max(0, s.costs["relay"])*gateways
	s.costs["receive"] = stored.gateways.sum() / n / gateways
	s.costs["recent"] = (after.gatewaysLive - before.gatewaysLive) / n / gateways
	return err
}

// wireBytes stores one message and returns its size as a gateway receives it, with the
// headers that NATS adds when it republishes.
func (s *scale) wireBytes(ctx context.Context, channel string) (float64, error) {
	sub, err := s.broker.nc.SubscribeSync(proto.LiveSubject(channel))
	if err != nil {
		return 0, fmt.Errorf("size of a message: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // it ends with the connection at the latest
	if err := s.broker.publish(ctx, to(channel, 1)); err != nil {
		return 0, err
	}
	m, err := sub.NextMsg(30 * time.Second)
	if err != nil {
		return 0, fmt.Errorf("size of a message: %w", err)
	}
	return float64(m.Size()), nil
}

// connecting connects all clients at once, each with an address of its own, to
// the channel that all follow and one of its own.
func (s *scale) connecting(ctx context.Context) (err error) {
	n := s.clients.n
	for i, v := range s.gateways {
		first := n * i / len(s.gateways)
		g := v.group(n*(i+1)/len(s.gateways)-first, everybody+"&channel="+ownChannel, false)
		g.First, g.PerAddress = first, 1
		some, err := s.startClients(g, true)
		if err != nil {
			return err
		}
		s.clients.parts = append(s.clients.parts, some.parts...)
	}
	if s.without, err = s.weigh(ctx); err != nil {
		return err
	}
	var within time.Duration
	all, _, err := s.spend(func() (err error) { within, err = s.clients.connect(ctx, ""); return err })
	if err != nil {
		return err
	}
	s.row(fmt.Sprintf("CPU while all come at once, within %.0f s", within.Seconds()), all)
	var rush float64
	for _, v := range s.gateways {
		resident, e := rssOf(v.pid())
		rush, err = rush+resident, errors.Join(err, e)
	}
	s.costs["rush"] = (rush - s.without.gateways) / float64(n)
	s.costs["shake"] = all.gateways.sum() / float64(n)
	return err
}

// idling measures heartbeats: nothing else happens.
func (s *scale) idling(ctx context.Context) error {
	n := s.clients.n
	before, err := s.clients.call(ctx, "Count", "")
	if err != nil {
		return err
	}
	used, took, err := s.spend(func() error { return pause(ctx, s.window) })
	if err != nil {
		return err
	}
	after, err := s.clients.call(ctx, "Count", "")
	if err != nil {
		return err
	}
	pings := after.Pings - before.Pings
	if after.Connected != n || pings < int64(n) {
		return fmt.Errorf("%d of %d clients are still there, and %d pings came within %s, want one for each at least", after.Connected, n, pings, took)
	}
	s.idle = used.per(took.Seconds())
	beats := float64(pings) / took.Seconds()
	s.row(fmt.Sprintf("CPU of a second in which all sit there, with %.0f heartbeats", beats), s.idle)
	s.costs["idle"] = s.idle.gateways.sum() / float64(n)
	s.costs["beat"] = s.idle.gateways.sum() / beats
	return nil
}

// weighing measures memory when the clients have been connected for a while: the runtime gives
// back the garbage of handshakes at its own pace.
func (s *scale) weighing(ctx context.Context) error {
	n := float64(s.clients.n)
	with, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	slab, sockets := with.kernel.slab-s.without.kernel.slab, with.kernel.sockets-s.without.kernel.sockets
	s.costs["conn"] = (with.gateways - s.without.gateways) / n
	s.costs["live"] = (with.gatewaysLive - s.without.gatewaysLive) / n
	s.costs["kernel"] = slab / n / 2 // both ends of a connection are on this machine
	nats := with.natsLive - s.without.natsLive
	for i, of := range []struct {
		what string
		n    float64
	}{{"memory of one, idle", 1}, {"memory of all", n}} {
		gateways, kernel, nats := s.costs["conn"]*of.n, s.costs["kernel"]*of.n, nats/n*of.n
		s.bill = slices.Insert(s.bill, i, []any{of.what, bytesOf(gateways), bytesOf(kernel), bytesOf(nats), bytesOf(gateways + kernel + nats)})
	}
	s.note("NATS had %d subscriptions without the clients and %d with them; its memory is heap and stacks in use.", s.without.subscriptions, with.subscriptions)
	s.note("The kernel's memory is half of what `Slab` in /proc/meminfo grew by, %s per connection, as both ends are here. What waits in sockets (`mem` in /proc/net/sockstat) is not among it, and grew by %s per connection.",
		bytesOf(slab/n), bytesOf(max(0, with.kernel.buffers-s.without.kernel.buffers)/n))
	if foreign := sockets - 2*n; foreign > n/50 || foreign < -n/50 {
		s.note("Do not trust this figure: other programs have %+.0f sockets since.", foreign)
	}
	return nil
}

// broadcasting sends one message after the other to all. Each client must receive
// each once.
func (s *scale) broadcasting(ctx context.Context) error {
	n := s.clients.n
	if err := s.warm(ctx, s.clients, to(everybody, 1), 1); err != nil {
		return err
	}
	var sum share
	var last []float64 // seconds from publisher to the last client, of each broadcast
	for range s.broadcasts {
		if _, err := s.clients.call(ctx, "Reset", ""); err != nil {
			return err
		}
		var got Tally
		used, took, err := s.spend(func() (err error) {
			if err := s.broker.publish(ctx, to(everybody, 1)); err != nil {
				return err
			}
			got, err = s.clients.await(ctx, 1)
			return err
		})
		if err != nil {
			return err
		}
		if got.Messages != int64(n) {
			return fmt.Errorf("%d clients received one message %d times", n, got.Messages)
		}
		sum, last = sum.plus(used.aboveIdle(s.idle, took)), append(last, got.Latency.percentile(1))
		s.costs["frame"] = float64(got.ParsedBytes)
	}
	one := sum.per(float64(s.broadcasts))
	s.row(fmt.Sprintf("CPU of a message that all get, the last one after %.2f s (%.2f–%.2f)", median(last), slices.Min(last), slices.Max(last)), one)
	s.costs["deliver"] = one.gateways.sum() / float64(n)
	return nil
}

// addressing sends messages to clients all over, at most one to each. Those of one
// block all go to clients of one gateway, so that what it spends more than the others,
// in the same time, is what a message costs that has a client.
func (s *scale) addressing(ctx context.Context) error {
	n, gateways := s.clients.n, len(s.gateways)
	visits := (blocks + gateways - 1) / gateways // of each gateway
	l := s.block(nil)
	l.messages = max(1, min(l.messages, n/gateways/visits))
	apart := n / gateways / (visits * l.messages)
	groups := [][]*process{{s.broker.nats}}
	for _, v := range s.gateways {
		groups = append(groups, []*process{v.process})
	}
	if _, err := s.clients.call(ctx, "Reset", ""); err != nil {
		return err
	}
	var single float64
	var all share
	for block := range blocks {
		turn := block % gateways
		first, visit := n*turn/gateways, block/gateways
		l.channel = func(i int) string { return own(first + (visit*l.messages+i)*apart) }
		sum := int64((block + 1) * l.messages)
		var got Tally
		each, took, err := s.cost(func() (err error) {
			if err := s.broker.publish(ctx, l); err != nil {
				return err
			}
			got, err = s.clients.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.Messages >= sum })
			return err
		}, groups...)
		if err != nil {
			return err
		}
		if got.Messages != sum {
			return fmt.Errorf("of %d messages to one client each %d came", sum, got.Messages)
		}
		used := share{nats: each[0]}
		for _, c := range each[1:] {
			used.gateways = used.gateways.plus(c)
		}
		all = all.plus(used.aboveIdle(s.idle, took))
		its := each[1+turn].sum()
		single += its - (used.gateways.sum()-its)/float64(gateways-1)
	}
	messages := float64(blocks * l.messages)
	s.row("CPU of 1,000 messages to one client each", all.per(messages/1000))
	s.costs["single"] = single / messages
	return nil
}
