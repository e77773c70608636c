package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/nats-io/nats.go"
)

// report is what one gateway tells the others about connections per address,
// as JSON on subjectIPs:
//
//	{"gateway":"9f1c2b7a4e","version":17,"counts":{"203.0.113.7/32":120}}
//
// A count replaces an older one of the same gateway; 0 withdraws it. A report
// without counts says that the gateway is there.
type report struct {
	Gateway string         `json:"gateway"`
	Version uint64         `json:"version"` // grows with each report of a gateway
	Counts  map[string]int `json:"counts,omitempty"`
}

const (
	// subjectIPs is plain NATS, not stored: a lost report is repaired by the
	// next refresh.
	subjectIPs = "herald.gateway.ips"
	// reportGroups bounds one report: 64 bytes a group, so 64 KiB.
	reportGroups = 1000
	// maxReports may wait to be read; beyond it they are dropped.
	maxReports = 10000
)

// sharing tells the other gateways how many connections an address has here,
// and receives what it has there. It fails open: while NATS is away, each
// gateway admits what it would alone.
type sharing struct {
	ips   *perIP
	nc    *nats.Conn
	log   *slog.Logger
	id    string // of this gateway
	known map[string]time.Time

	begun  atomic.Int64 // when run began, monotonic.Now; 0: it has not
	others atomic.Int32 // len(known)
}

// acquainted is how long after its start a gateway knows the others: they answer its first report at once.
const acquainted = time.Second

// alone reports whether no other gateway is known.
func (s *sharing) alone() bool { return s.others.Load() == 0 }

// gateways is how many gateways there are, this one included; 0: it is not known yet.
func (s *sharing) gateways() int {
	if begun := s.begun.Load(); begun == 0 || monotonic.Since(begun) < acquainted {
		return 0
	}
	return int(s.others.Load()) + 1
}

// run shares until ctx ends.
func (s *sharing) run(ctx context.Context) error {
	reports := make(chan *nats.Msg, maxReports) // NATS writes; never closed
	sub, err := s.nc.ChanSubscribe(subjectIPs, reports)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subjectIPs, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	status := s.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING)
	defer s.nc.RemoveStatusListener(status)
	s.ips.send = s.publish
	s.ips.setShared(s.nc.IsConnected())
	defer s.ips.setShared(false)
	s.refresh()
	s.begun.Store(monotonic.Now())
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case state, ok := <-status:
			if !ok { // the connection is closed for good
				status = nil
			}
			s.ips.setShared(ok && state == nats.CONNECTED)
			s.refresh()
		case <-tick.C:
			s.refresh()
			s.forget()
		case msg := <-reports:
			s.receive(msg)
		}
	}
}

func (s *sharing) publish(r report) {
	r.Gateway = s.id
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("gateway: a report does not marshal: %v", err)) // it is a plain struct
	}
	if err := s.nc.Publish(subjectIPs, b); err != nil {
		s.log.Debug("could not share connection counts", "err", err) // the refresh repeats them
	}
}

// refresh says everything that others should know.
func (s *sharing) refresh() {
	for _, r := range s.ips.all() {
		s.publish(r)
	}
}

func (s *sharing) receive(msg *nats.Msg) {
	var r report
	if err := json.Unmarshal(msg.Data, &r); err != nil || r.Gateway == "" || r.Gateway == s.id {
		return
	}
	_, known := s.known[r.Gateway]
	s.known[r.Gateway] = time.Now()
	s.others.Store(int32(len(s.known)))
	s.ips.received(r)
	if !known { // it knows nothing of this one
		s.refresh()
	}
}

// forget drops gateways that have been silent for too long.
func (s *sharing) forget() {
	for id, heard := range s.known {
		if time.Since(heard) > forgetAfter {
			delete(s.known, id)
		}
	}
	s.others.Store(int32(len(s.known)))
	s.ips.forget()
}

func (l *perIP) setShared(shared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shared = shared
}

// all is every count that others are told, in reports of at most
// reportGroups, and at least one.
func (l *perIP) all() []report {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version++
	reports := []report{{Version: l.version}}
	for g, n := range l.count {
		if n < l.tell {
			continue
		}
		last := &reports[len(reports)-1]
		if len(last.Counts) == reportGroups {
			reports = append(reports, report{Version: l.version})
			last = &reports[len(reports)-1]
		}
		if last.Counts == nil {
			last.Counts = map[string]int{}
		}
		last.Counts[g.String()] = n
	}
	return reports
}

// received replaces what is known of another gateway by its report.
func (l *perIP) received(r report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range r.Counts {
		g, err := netip.ParsePrefix(name)
		if err != nil || n < 0 {
			continue // NATS is open to services only; what is malformed is none of theirs
		}
		if l.others[g] == nil {
			l.others[g] = map[string]remoteCount{}
		}
		if l.others[g][r.Gateway].version <= r.Version {
			l.others[g][r.Gateway] = remoteCount{n: n, version: r.Version, heard: time.Now()}
		}
	}
}

// forget drops what is too old to count.
func (l *perIP) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g, counts := range l.others {
		for id, c := range counts {
			if time.Since(c.heard) > forgetAfter {
				delete(counts, id)
			}
		}
		if len(counts) == 0 {
			delete(l.others, g)
		}
	}
}
