//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// scenario is servers and clients of one kind, and what is measured with them, in this order.
type scenario struct {
	channel string // that each client follows; {n} is its number; empty: no clients
	share   int    // clients with the same number
	most    int    // clients; 0: as many as the plan says
	tls     bool
	pings   bool   // the server pings
	posts   bool   // the price of POSTs is measured, so a server that takes some gets them itself
	sync    string // how often NATS forces messages to disk; empty: every two minutes, which is its default
	without string // "gateway": only NATS and ingest; "split": the single binary
	steps   []step
}

// step is one measurement.
type step struct {
	name     string // for -only
	each     bool   // with each number of clients; else with the largest only
	connects bool   // as the first step, it connects the clients itself
	do       func(ctx context.Context, t *trial) error
}

// The channel that all clients of a broadcast follow, and those of one client each.
const everybody, ownChannel = "public.bench", "public.u{n}"

const (
	mostSecure    = 2000   // clients over TLS, whose handshakes cost the clients more than the server
	mostPinged    = 5000   // clients that are pinged
	mostPerSecond = 10_000 // messages, not deliveries, of a broadcast's load
	burstOf       = 5      // messages that are published at once in bursts
	missed        = 20     // messages that are stored while all clients are away
)

// scenarios are performed in this order in each round.
var scenarios = []scenario{
	{channel: everybody, share: 1, steps: []step{
		{name: "idle", connects: true, do: arrive},
		{name: "fanout", each: true, do: broadcast(1)},
		{name: "bursts", each: true, do: broadcast(burstOf)},
		{name: "storm", do: comeBack(herd, "… until all are back", 0)},
		{name: "resume", do: comeBack(herdMissed, "… until all have them", missed)},
	}},
	{channel: everybody, share: 1, most: mostSecure, tls: true, steps: []step{
		{name: "tls", connects: true, do: arrive},
	}},
	{channel: everybody, share: 1, most: mostPinged, pings: true, steps: []step{
		{name: "ping", connects: true, do: ping},
	}},
	{channel: ownChannel, share: 1, posts: true, steps: []step{
		{name: "channels", do: posting{load: load{connections: 8}, title: perUser, part: 1. / 3, to: "own"}.measure},
		{name: "channels", do: posting{load: load{each: 50, connections: 8}, title: perUserArrays, part: 1,
			to: "own"}.measure},
	}},
	{channel: ownChannel, share: 1, posts: true, sync: "always", steps: []step{
		{name: "synced", do: posting{load: load{connections: 8}, title: perUserSynced, part: 1. / 6,
			to: "own"}.measure},
	}},
	{channel: ownChannel, share: 9, most: 9000, posts: true, steps: []step{
		{name: "nine", do: posting{load: load{connections: 16, perSecond: 5000}, title: nineEach, part: 1. / 6,
			to: "own"}.measure},
	}},
	{channel: everybody, share: 1, most: 1000, steps: []step{
		{name: "unwanted", do: posting{load: load{each: 1000, lines: true}, title: unwanted, part: 2,
			serverAlone: true}.measure},
	}},
	{without: "gateway", steps: []step{
		{name: "ingest", do: posting{load: load{connections: 64}, title: singlePosts, part: 1. / 6}.measure},
		{name: "ingest", do: posting{load: load{each: 100, connections: 32}, title: arrays, part: 1. / 2}.measure},
		{name: "ingest", do: posting{load: load{each: 1000, lines: true, connections: 32}, title: ndjson,
			part: 1}.measure},
	}},
	{without: "gateway", sync: "always", steps: []step{
		{name: "synced", do: posting{load: load{connections: 64}, title: singleSynced, part: 1. / 6,
			rate: storedPerSecond}.measure},
	}},
	{without: "split", steps: []step{
		{name: "ingest", do: posting{load: load{connections: 64}, title: singleBinary, part: 1. / 6}.measure},
	}},
}

// stepNames are those of all steps.
func stepNames() (names []string) {
	for _, s := range scenarios {
		for _, p := range s.steps {
			if !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
		}
	}
	return names
}

// Titles of rows. Those that begin with … belong to the row before them.
const (
	idleMemory, idleMemoryTLS = "an idle client, resident memory", "an idle client over TLS, resident memory"
	handshake, handshakeTLS   = "a handshake, CPU", "a handshake over TLS, CPU"
	liveMemory                = "… heap and stacks in use"
	pingTitle                 = "a ping and its pong, CPU"
	herd                      = "%s clients lose their connection and come back at once: CPU per client"
	herdMissed                = "%s clients come back at once and get 20 missed messages: CPU per client"
	userTime                  = "… outside the kernel"
	latencies                 = "… latency, p50 / p95 / p99"
	perUser                   = "a channel for each client, single POSTs over 8 connections: CPU of a message"
	perUserArrays             = "the same in arrays of 50"
	perUserSynced             = "the same as single POSTs, each answered after an fsync"
	nineEach                  = "5,000 POSTs a second, nine clients get each: CPU of a message"
	unwanted                  = "a message that no client wants: CPU of the gateway"
	singlePosts               = "one POST, stored and acknowledged: CPU of ingest and NATS"
	singleSynced              = "one POST, answered after an fsync: CPU of ingest and NATS"
	storedPerSecond           = "… stored per second"
	arrays                    = "a message of an array of 100"
	ndjson                    = "a message of an NDJSON stream"
	singleBinary              = "one POST in the single binary as it ships, its gateway and log included"
)

// fan is the title of a load that all clients of one channel receive.
func fan(clients, burst int) string {
	if burst == 1 {
		return count(float64(clients)) + " clients, one message at a time: CPU of a million deliveries"
	}
	return fmt.Sprintf("%s clients, bursts of %d messages: CPU of a million deliveries", count(float64(clients)), burst)
}

// trial is one candidate with clients.
type trial struct {
	*bench
	*system
	scenario
	of      *candidate
	clients *crowd
}

// record notes the values of a row in this round.
func (t *trial) record(what string, unit unit, v ...float64) {
	t.result.record(what, unit, t.of, t.round, v...)
	fmt.Fprintf(t.log, "  %-16s %s: %s\n", t.of.name, what, unit(v[0]))
}

// group is n clients of the channel.
func (t *trial) group(n int, channel string) group {
	return group{dialect: t.of.dialect, Channel: channel, Share: t.share, N: n, Addr: t.addr, TLS: t.tls,
		PerAddress: portsOfAnAddress}
}

// arrive connects the clients at once, and measures what that costs and what memory they take while they are idle.
func arrive(ctx context.Context, t *trial) error {
	title, shake := idleMemory, handshake
	if t.tls {
		title, shake = idleMemoryTLS, handshakeTLS
	}
	if err := t.visit(ctx); err != nil {
		return err
	}
	before, err1 := t.weigh(ctx, t.settle)
	used, err2 := cost(func() error { return t.clients.connect(ctx, "") }, t.process)
	err3 := pause(ctx, t.rest) // the runtime gives the garbage of handshakes back at its own pace
	after, err4 := t.weigh(ctx, t.settle)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	n := float64(t.clients.n)
	// The runtime gives what it kept of the visitors to the clients. If that were not added, they would look cheaper
	// than they are.
	t.record(title, kilobytes, (after.resident-before.resident+before.kept)/n)
	t.record(liveMemory, kilobytes, (after.live-before.live)/n)
	t.record(shake, microseconds, used.sum/n*1e6)
	return nil
}

// visit connects some clients and ends them: enough for every path of the code to have run many times, and few beside
// those whose memory is measured. The server's code is then in memory, and its pools and the runtime's tables exist:
// what it needs once does not count as memory of clients.
func (t *trial) visit(ctx context.Context) error {
	const visitors = "public.visitors"
	few, err := t.startClients(t.group(min(300, max(1, t.clients.n/20)), visitors))
	if err == nil {
		err = few.connect(ctx, "")
	}
	if err == nil {
		_, err = few.call(ctx, "Drop", "")
	}
	if err == nil {
		_, err = t.publish(ctx, to(visitors, 1)) // the bare loop notices that clients are gone when it writes to them
	}
	return err
}

// idOf finds the id in the answer to a POST.
var idOf = regexp.MustCompile(`"id":"([0-9a-z-]+)"`)

// comeBack measures what it costs that all clients lose their connection, and come back and get so many messages that
// were published meanwhile.
func comeBack(title, until string, missed int) func(ctx context.Context, t *trial) error {
	return func(ctx context.Context, t *trial) error {
		answer, err := t.publish(ctx, to(everybody, 1))
		if err != nil {
			return err
		}
		query := ""
		if id := idOf.FindStringSubmatch(answer); missed > 0 && id != nil {
			query = "&since=" + id[1]
		}
		used, err := cost(func() error {
			_, err := t.clients.call(ctx, "Drop", "")
			if err == nil && missed > 0 {
				_, err = t.publish(ctx, to(everybody, missed))
			}
			if err == nil {
				err = t.clients.connect(ctx, query)
			}
			if err == nil {
				_, err = t.clients.await(ctx, missed)
			}
			return err
		}, t.process)
		if err == nil {
			t.record(fmt.Sprintf(title, count(float64(t.clients.n))), microseconds, used.sum/float64(t.clients.n)*1e6)
			t.record(until, seconds, used.took)
		}
		return err
	}
}

// ping measures what pings and pongs cost, and nothing else: what the process does without any client is subtracted,
// and counting begins when the garbage of the handshakes is collected and as many pings have come as there are clients.
func ping(ctx context.Context, t *trial) error {
	pinged := func(n int64) (Tally, error) {
		return t.clients.until(ctx, 6*t.pingEvery, func(t *Tally) bool { return t.Pings >= n })
	}
	alone, err1 := cost(func() error { return pause(ctx, t.pingEvery) }, t.process)
	err2 := t.clients.connect(ctx, "")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err1 = pinged(int64(t.clients.n))
	_, err2 = t.weigh(ctx, 0)
	before, err3 := t.clients.call(ctx, "Count", "")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	after := before
	used, err := cost(func() (err error) {
		after, err = pinged(before.Pings + int64(t.pingRounds*t.clients.n))
		return err
	}, t.process)
	if err == nil {
		pings := float64(after.Pings - before.Pings)
		t.record(pingTitle, microseconds, max(0, used.sum-alone.sum/alone.took*used.took)/pings*1e6)
	}
	return err
}

// posting is a measurement of messages that are published.
type posting struct {
	load        // without messages and channel
	title       string
	part        float64 // how many messages, as a part of the deliveries that a measurement has
	to          string  // channels: "all", of all clients; "own", of one client or a few; "": that nobody follows
	serverAlone bool    // the CPU of the server is measured, not of everything
	rate        string  // title of the row with the messages per second; empty: none
}

// broadcast is messages to all clients, in bursts, at the rate of deliveries that the plan has.
func broadcast(burst int) func(ctx context.Context, t *trial) error {
	return func(ctx context.Context, t *trial) error {
		n := float64(t.clients.n)
		return posting{title: fan(t.clients.n, burst), to: "all", serverAlone: true,
			load: load{each: burst, perSecond: min(mostPerSecond, float64(t.rate)/n)},
			part: max(1/n, 2*burstOf/float64(t.deliver))}.measure(ctx, t)
	}
}

func (p posting) measure(ctx context.Context, t *trial) error {
	channels, name, counted := 1000, "public.nobody", t.counted
	switch p.to {
	case "own":
		channels, name = (t.clients.n+t.share-1)/t.share, "public.u"
	case "all":
		channels = max(1, p.each)
	}
	p.channel = func(i int) string {
		if p.to == "all" {
			return everybody
		}
		return fmt.Sprintf("%s%05d", name, i%channels)
	}
	if p.serverAlone {
		counted = []*process{t.process}
	}
	var got Tally
	publish := func() (err error) {
		switch p.to {
		case "":
			_, err = t.publish(ctx, p.load)
		case "own":
			got, err = t.clients.receive(ctx, t.target, p.load, p.messages/channels)
		case "all":
			got, err = t.clients.receive(ctx, t.target, p.load, p.messages)
		}
		return err
	}
	p.messages = channels
	if err := publish(); err != nil { // what happens once has then happened
		return err
	}
	p.messages *= max(1, int(p.part*float64(t.deliver))/channels)
	used, err := cost(publish, counted...)
	if err != nil {
		return err
	}
	if p.to == "all" {
		millions := float64(p.messages*t.clients.n) / 1e6
		t.record(p.title, seconds, used.sum/millions)
		t.record(userTime, seconds, used.user/millions)
	} else {
		t.record(p.title, perCore, used.sum/float64(p.messages)*1e6)
		for i, of := range counted {
			each := used.each[i].sum / float64(p.messages) * 1e6
			fmt.Fprintf(t.log, "  %-16s … of that %s\n", of.name, microseconds(each))
		}
	}
	if p.rate != "" {
		t.record(p.rate, count, float64(p.messages)/used.took)
	}
	if p.perSecond > 0 { // else it is how far the servers are behind the publishers
		h := got.Latency
		t.record(latencies, milliseconds, h.percentile(0.50), h.percentile(0.95), h.percentile(0.99))
	}
	return nil
}
