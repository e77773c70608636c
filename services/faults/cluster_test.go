package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/nats-io/nats.go/jetstream"
)

// cluster is NATS servers that see each other through proxies only: each
// server's route to each other one goes through a proxy of its own.
type cluster struct {
	brokers []*service
	links   [][]*proxy // from, to; nil on the diagonal
}

// newCluster starts n servers and waits until JetStream has a leader.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{links: make([][]*proxy, n)}
	var ports []string
	for range n {
		ports = append(ports, proctest.FreePort(t))
	}
	for from := range n {
		c.links[from] = make([]*proxy, n)
		var routes []string
		for to := range n {
			if to != from {
				p := newProxy(t, "127.0.0.1:"+ports[to])
				c.links[from][to] = p
				routes = append(routes, "nats://"+p.addr)
			}
		}
		// Servers tell each other of those they know, and connect to them. What
		// they tell here leads nowhere: only the routes that are written down,
		// and can be cut, are left.
		c.brokers = append(c.brokers, newBroker(t, fmt.Sprintf("n%d", from), fmt.Sprintf(
			"cluster { name: herald, listen: \"127.0.0.1:%s\", cluster_advertise: \"127.0.0.1:1\", "+
				"no_advertise: true, routes: [%s] }\n",
			ports[from], `"`+strings.Join(routes, `","`)+`"`)))
	}
	for _, b := range c.brokers {
		b.start()
	}
	return c
}

// silence holds back every byte between one server and the others: nobody is
// told, as when a cable is pulled. sever ends their connections and lets none
// begin. heal ends both.
func (c *cluster) silence(broker int) { c.around(broker, (*proxy).freeze) }

func (c *cluster) sever(broker int) {
	c.around(broker, func(p *proxy) {
		p.set(func() { p.refuse = true })
		p.cut()
	})
}

func (c *cluster) heal(broker int) {
	c.around(broker, func(p *proxy) { p.set(func() { p.refuse, p.frozen = false, false }) })
}

func (c *cluster) around(broker int, do func(*proxy)) {
	for other := range c.brokers {
		if other != broker {
			do(c.links[broker][other])
			do(c.links[other][broker])
		}
	}
}

// ask gives do a JetStream handle for two seconds, if NATS can be reached.
func ask(natsURL string, do func(context.Context, jetstream.JetStream)) {
	nc, err := natsx.Connect(natsx.Config{URL: natsURL, Name: "faults"}, quiet)
	if err != nil {
		return
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	do(ctx, js)
}

// mustAsk asks until NATS answers, as a machine that does much else may take long.
func (s *system) mustAsk(what string, do func(context.Context, jetstream.JetStream) error) {
	s.t.Helper()
	natstest.Eventually(s.t, time.Minute, "NATS tells "+what, func() (told bool) {
		ask(s.natsURL, func(ctx context.Context, js jetstream.JetStream) { told = do(ctx, js) == nil })
		return told
	})
}

// streamInfo asks the cluster about the stream; nil while nobody answers.
func (s *system) streamInfo() (info *jetstream.StreamInfo) {
	ask(s.natsURL, func(ctx context.Context, js jetstream.JetStream) {
		if stream, err := js.Stream(ctx, proto.Stream); err == nil {
			info = stream.CachedInfo()
		}
	})
	return info
}

// leader is the server that leads the stream, once there is one that is not
// the one excepted; -1: none is.
func (s *system) leader(except int) int {
	s.t.Helper()
	leader := -1
	natstest.Eventually(s.t, time.Minute, "the stream has a leader", func() bool {
		info := s.streamInfo()
		if info == nil || info.Cluster == nil {
			return false
		}
		leader = slices.IndexFunc(s.brokers, func(b *service) bool { return b.name == info.Cluster.Leader })
		return leader >= 0 && leader != except
	})
	return leader
}

// whole waits until every replica of the stream is up to date: only then may
// another server go without taking the majority with it.
func (s *system) whole() {
	s.t.Helper()
	natstest.Eventually(s.t, time.Minute, "every replica of the stream is current", func() bool {
		info := s.streamInfo()
		return info != nil && info.Cluster != nil && len(info.Cluster.Replicas) == len(s.brokers)-1 &&
			!slices.ContainsFunc(info.Cluster.Replicas, func(r *jetstream.PeerInfo) bool {
				return !r.Current || r.Offline
			})
	})
}
