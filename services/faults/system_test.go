package faults

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/herald-push/herald/services/internal/natstest"
)

// quiet drops what nats.go says to the tests: the faults are on purpose.
var quiet = slog.New(slog.DiscardHandler)

// system is the split form as real processes, with its publishers and clients.
type system struct {
	t        testing.TB
	natsURL  string
	brokers  []*service
	cluster  *cluster // nil with one broker
	ingests  []*service
	gateways []*service
	logger   *service
	console  *console // nil: none is open
	db       string

	ledger    *ledger
	publisher *publisher
	clients   []*client
}

// shape is how many of each a scenario wants, and the settings of its
// gateways beside the suite's own.
type shape struct {
	brokers, ingests, gateways int
	gatewayEnv                 []string
}

// newSystem starts what shape says, a logger with it, and waits until all are ready.
func newSystem(t testing.TB, want shape) *system {
	t.Helper()
	s := newBrokers(t, want.brokers)
	s.addServices(want)
	return s
}

// newBrokers starts NATS alone.
func newBrokers(t testing.TB, n int) *system {
	t.Helper()
	s := &system{t: t, ledger: newLedger()}
	if n == 1 {
		s.brokers = []*service{newBroker(t, "nats", "")}
		s.brokers[0].start()
	} else {
		s.cluster = newCluster(t, n)
		s.brokers = s.cluster.brokers
	}
	var urls []string
	for _, b := range s.brokers {
		b.await()
		urls = append(urls, b.url())
	}
	s.natsURL = strings.Join(urls, ",")
	return s
}

func (s *system) addServices(want shape) {
	s.t.Helper()
	for range want.ingests {
		s.addIngest(s.natsURL)
	}
	for range want.gateways {
		s.addGateway(s.natsURL, want.gatewayEnv...)
	}
	s.db = filepath.Join(s.t.TempDir(), "herald.db")
	s.addLogger()
	s.await()
	if *open {
		s.openConsole()
	}
}

func (s *system) addIngest(natsURL string) {
	s.t.Helper()
	replicas := fmt.Sprintf("HERALD_REPLICAS=%d", len(s.brokers))
	s.ingests = append(s.ingests, newService(s.t, ingestCommand, s.t.TempDir(), natsURL, replicas))
	var addrs []string
	for _, i := range s.ingests {
		addrs = append(addrs, i.addr)
	}
	s.publisher = newPublisher(s.ledger, addrs)
	s.t.Cleanup(s.publisher.http.CloseIdleConnections)
}

func (s *system) addGateway(natsURL string, env ...string) {
	s.t.Helper()
	s.gateways = append(s.gateways, newService(s.t, gatewayCommand, s.t.TempDir(), natsURL, env...))
}

func (s *system) addLogger() {
	s.t.Helper()
	s.logger = newService(s.t, loggerCommand, s.t.TempDir(), s.natsURL, "HERALD_DB="+s.db)
}

// await waits until every service does its work.
func (s *system) await() {
	s.t.Helper()
	for _, svc := range append(append(append([]*service{}, s.ingests...), s.gateways...), s.logger) {
		svc.await()
	}
}

func (s *system) gatewayAddrs() []string {
	var addrs []string
	for _, g := range s.gateways {
		addrs = append(addrs, g.addr)
	}
	return addrs
}

// addClients connects n more clients to these gateways, and waits until they
// are welcome. Each follows these patterns.
func (s *system) addClients(n int, dial dialer, gateways []string, patterns ...string) []*client {
	s.t.Helper()
	var added []*client
	for range n {
		c := newClient(fmt.Sprintf("client %d", len(s.clients)), gateways, dial, patterns...)
		s.clients = append(s.clients, c)
		added = append(added, c)
		s.t.Cleanup(c.stop)
		c.start()
	}
	s.awaitConnected(added)
	return added
}

// addDialects connects n clients of each other protocol with which clients can resume, beside those over WebSocket: to
// these gateways, for all channels or, where a client has one place for each channel, for one of names.
func (s *system) addDialects(n int, gateways, names []string) []*client {
	s.t.Helper()
	added := append(s.addClients(n, dialEvents, gateways, "public.>"), s.addSocketIO(n, gateways)...)
	s.addApp()
	for i := range n {
		added = append(added, s.addClients(1, dialPusher, gateways, names[i%len(names)])...)
	}
	return added
}

// addSocketIO connects n more clients of Socket.IO over each transport.
func (s *system) addSocketIO(n int, gateways []string) (added []*client) {
	s.t.Helper()
	for _, dial := range []dialer{dialPolling, dialUpgrading, dialSocketIO} {
		added = append(added, s.addClients(n, dial, gateways, "public.>")...)
	}
	return added
}

func (s *system) awaitConnected(clients []*client) {
	s.t.Helper()
	natstest.Eventually(s.t, 3*time.Minute, "every client is welcome", func() bool {
		for _, c := range clients {
			if !c.connected() {
				return false
			}
		}
		return true
	})
}

// flowing waits until a hundred more messages were accepted: the fault hits
// moving traffic, and the traffic got over the one before.
func (s *system) flowing() {
	s.t.Helper()
	before := s.ledger.len()
	natstest.Eventually(s.t, time.Minute, "messages are accepted", func() bool { return s.ledger.len() >= before+100 })
}

// channels are those that scenarios publish to, as many as n.
func channels(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("public.c%d", i))
	}
	return names
}

// settle waits until every client has, and the log holds, all that was
// accepted. It publishes one last message to each channel first: whatever is
// still on the way twice, or late, comes before that.
func (s *system) settle(channels []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), acceptWithin)
	defer cancel()
	for _, c := range channels {
		if _, err := s.publisher.publish(ctx, c, 1); err != nil {
			s.ledger.fault("%v", err)
		}
	}
	newest := s.ledger.newest()
	deadline := time.Now().Add(settleWithin)
	for _, c := range s.clients {
		for !c.reached(newest) && time.Now().Before(deadline) { // the judge says what is missing
			time.Sleep(5 * time.Millisecond)
		}
	}
	logged := func() bool { // it may have rows of which no publisher was told
		return s.rows() >= s.ledger.len() &&
			s.number(`SELECT coalesce(max(seq), 0) FROM messages`) >= int(s.ledger.last())
	}
	for time.Now().Before(deadline) && !logged() {
		time.Sleep(20 * time.Millisecond)
	}
}

// settleWithin is for the slowest that may be: a reconnect, and the logger
// that gets again what was not acknowledged after its half minute.
const settleWithin = 5 * time.Minute

// verdict judges every client and the log, and fails the test unless every
// promise was kept.
func (s *system) verdict() verdict {
	s.t.Helper()
	v := verdict{published: s.ledger.len()}
	for _, c := range s.clients {
		v.add(c.judge(s.ledger))
	}
	v.add(s.judgeLog())
	s.ledger.mu.Lock()
	v.examples = append(v.examples, s.ledger.faults...)
	s.ledger.mu.Unlock()
	if !v.perfect() {
		s.t.Errorf("%d lost, %d duplicated, %d out of order, want none:\n%s", v.lost, v.duplicated, v.reordered,
			strings.Join(v.examples, "\n"))
	}
	if v.published == 0 || v.received == 0 && len(s.clients) > 0 {
		s.t.Errorf("%d published, %d received: the scenario did nothing", v.published, v.received)
	}
	return v
}

// judgeLog reads the log as one more client, which followed everything from
// the beginning; what it received does not count as received.
func (s *system) judgeLog() verdict {
	s.t.Helper()
	db := s.openLog()
	defer func() { _ = db.Close() }()
	var integrity string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&integrity); err != nil || integrity != "ok" {
		s.t.Errorf("integrity_check: got %q, %v, want ok", integrity, err)
	}
	rows, err := db.Query(`SELECT seq, json_extract(message, '$.n') FROM messages ORDER BY epoch, seq`)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var got []receipt
	for rows.Next() {
		var r receipt
		if err := rows.Scan(&r.seq, &r.n); err != nil {
			s.t.Fatal(err)
		}
		got = append(got, r)
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	v := s.ledger.judge("the log", got, []follow{following(">", 0)}, nil)
	v.received, v.stall = 0, 0
	if holes := s.logger.metric("herald_logger_holes_total"); holes != 0 {
		v.wrong(&v.lost, "the log counts %g holes, want none", holes)
	}
	return v
}

func (s *system) rows() int {
	s.t.Helper()
	return s.number(`SELECT count(*) FROM messages`)
}

// number reads one from the log's file.
func (s *system) number(query string) int {
	s.t.Helper()
	db := s.openLog()
	defer func() { _ = db.Close() }()
	var n int
	if err := db.QueryRow(query).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *system) openLog() *sql.DB {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+s.db+"?mode=ro&_pragma=busy_timeout(60000)")
	if err != nil {
		s.t.Fatal(err)
	}
	return db
}
