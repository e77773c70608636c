package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// burstRSS bounds the logger's resident memory while a burst drains,
	// however long that is: what it has asked NATS for, one batch, and the page
	// caches of SQLite's five connections.
	burstRSS = 128 << 20
	// burstRows is what the logger must write, and index, per second of its
	// CPU; held against in the long form only, where a core does nothing else.
	burstRows = 25_000
	// needles are messages with a word of their own, this far apart.
	needles = 5000
	// searchWithin is how long a search may take while rows are written; held against in the long form only.
	searchWithin = 5 * time.Second
)

// A million messages arrive as one NDJSON stream, as fast as ingest takes
// them; the logger is away for the first half. All drain into the log: each
// once, in bounded memory, while searches are answered completely. Clients of
// WebSocket and Socket.IO follow one channel in a hundred.
func TestBurst(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 1})
	s.logger.stop()
	for _, dial := range []dialer{dialWebSocket, dialSocketIO, dialPolling, dialUpgrading} {
		s.addClients(1, dial, s.gatewayAddrs(), burstChannel)
	}
	n := times(1_000_000, 50_000)
	b := startBurst(s.ingests[0].addr, n)
	natstest.Eventually(t, burstWithin, "half of it is published",
		func() bool { return b.stored.Load() >= int64(n/2) || b.ended() })
	begin := time.Now()
	s.logger.start()
	s.logger.await()
	d := drain{s: s}
	for !b.ended() || s.logger.metric("herald_logger_rows_total") < float64(n) {
		if b.ended() && b.err != nil {
			t.Fatal(b.err)
		}
		if time.Since(begin) > burstWithin {
			t.Fatalf("%d of %d rows after %s", s.rows(), n, burstWithin)
		}
		d.look()
	}
	drained := time.Since(begin)
	used := s.logger.cpu()
	packs, bytes := s.packs()
	natstest.Eventually(t, time.Minute, "nothing waits, and all is accounted for", func() bool {
		return s.logger.metric("herald_logger_pending_messages") == 0 &&
			s.logger.metric("herald_logger_lag_seconds") == 0 &&
			s.acknowledged() == uint64(packs) && s.number(`SELECT sum(accounted) FROM epochs`) == packs
	})

	v := b.judge(s)
	perMessage := bytes / int64(n)
	// In the short form the logger may have drained the half before this process is given the time for a look.
	if *long && (d.pending < float64(packs/4) || d.lag == 0) {
		t.Errorf("at most %g packs were pending, and the log %g s behind, want %d at least, and some time", d.pending,
			d.lag, packs/4)
	}
	if d.rss > burstRSS {
		t.Errorf("the logger took %d MiB, want at most %d", d.rss>>20, burstRSS>>20)
	}
	if d.searches == 0 {
		t.Error("no search was made while the messages came")
	}
	perSecond := float64(n) / used.Seconds()
	if *long && perSecond < burstRows {
		t.Errorf("%.0f rows per second of CPU, want %d", perSecond, burstRows)
	}
	t.Logf("%d messages of %d bytes each in the stream, logged within %.1f s of the logger's start (%.0f a second)", n,
		perMessage, drained.Seconds(), float64(n)/drained.Seconds())
	t.Logf("logger: %.1f s of CPU with index and searches, %.0f rows per second of it; at most %d MiB, %.0f packs "+
		"pending, %.1f s behind", used.Seconds(), perSecond, d.rss>>20, d.pending, d.lag)
	t.Logf("%d searches meanwhile, the slowest %.2f s", d.searches, d.slowest.Seconds())
	report(t, v, fmt.Sprintf("%.0f rows per second of the logger's CPU, search index included; at most %d MiB",
		perSecond, d.rss>>20),
		"one NDJSON stream as fast as ingest takes it, into the log")
}

// burstWithin is how long the long form may take on a busy machine.
const burstWithin = 10 * time.Minute

// drain watches the logger while it works.
type drain struct {
	s            *system
	rss          int64   // the most
	pending, lag float64 // the most
	searches     int
	slowest      time.Duration
	searched     time.Time // last
}

func (d *drain) sample() {
	d.s.t.Helper()
	d.rss = max(d.rss, d.s.logger.rss())
	d.pending = max(d.pending, d.s.logger.metric("herald_logger_pending_messages"))
	d.lag = max(d.lag, d.s.logger.metric("herald_logger_lag_seconds"))
}

// searchEvery leaves the logger's CPU to what is measured.
const searchEvery = time.Second

// look samples, and now and then searches for the newest needle that is in
// the log, and for the first.
func (d *drain) look() {
	d.s.t.Helper()
	d.sample()
	// Lines are numbered from 1 on, and logged in their order.
	if newest := int(d.s.logger.metric("herald_logger_rows_total")) / needles; newest > 0 &&
		time.Since(d.searched) > searchEvery {
		d.searched = time.Now()
		for _, k := range []int{newest, 1} {
			d.search(k)
		}
	}
	time.Sleep(50 * time.Millisecond)
}

// search follows the pages of a search for one needle, and wants it once.
func (d *drain) search(k int) {
	d.s.t.Helper()
	begin := time.Now()
	found := 0
	q := url.Values{"q": {fmt.Sprintf("needle%d", k)}}
	for {
		var page struct {
			Messages []struct {
				Message json.RawMessage `json:"message"`
			} `json:"messages"`
			Next string `json:"next"`
		}
		d.s.getLog(q, &page)
		found += len(page.Messages)
		if page.Next == "" {
			break
		}
		q.Set("cursor", page.Next)
	}
	took := time.Since(begin)
	d.searches++
	d.slowest = max(d.slowest, took)
	if found != 1 || *long && took > searchWithin {
		d.s.t.Errorf("search for needle%d: got %d rows in %s, want 1 within %s", k, found, took, searchWithin)
	}
}

// getLog calls GET /v1/log of the logger.
func (s *system) getLog(q url.Values, into any) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+s.logger.addr+"/v1/log?"+q.Encode(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", apiKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("GET /v1/log %v: %s %.200s, %v", q, resp.Status, body, err)
	}
}

// packs is how many the stream has, and what they take. It must have all of
// them: its default limits are those of the long form, too.
func (s *system) packs() (n int, bytes int64) {
	s.t.Helper()
	s.mustAsk("the stream's state", func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, proto.Stream)
		if err != nil {
			return err
		}
		state := stream.CachedInfo().State
		if state.Msgs != state.LastSeq || state.FirstSeq != 1 {
			s.t.Errorf("the stream has %d packs from %d on, want %d from 1 on", state.Msgs, state.FirstSeq,
				state.LastSeq)
		}
		n, bytes = int(state.Msgs), int64(state.Bytes)
		return nil
	})
	return n, bytes
}

// burst is one POST of NDJSON. err and seqs are for after its end.
type burst struct {
	done   chan struct{} // closed when the answer has ended
	stored atomic.Int64  // messages so far
	err    error
	seqs   []uint64 // of the messages in the order of their lines
}

func (b *burst) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// startBurst posts n messages with 128 bytes of data each; it ends with its
// answer.
func startBurst(ingest string, n int) *burst {
	b := &burst{done: make(chan struct{})}
	body, lines := io.Pipe()
	go func() { // ends when the body is written, or nobody reads it
		w := bufio.NewWriterSize(lines, 64<<10)
		for i := 1; i <= n; i++ {
			if _, err := w.Write(burstLine(i)); err != nil {
				return
			}
		}
		_ = lines.CloseWithError(w.Flush())
	}()
	go func() {
		defer close(b.done)
		b.err = b.post(ingest, n, body)
		_ = body.CloseWithError(io.ErrClosedPipe)
	}()
	return b
}

// burstLine has the message's number, one of a few thousand customers, and
// words; each of the needles has a word of its own.
func burstLine(n int) []byte {
	data := fmt.Appendf(nil, `{"n":%d,"customer":"c%d","text":"order %d `, n, n%4099, n*7919%1_000_003)
	if n%needles == 0 {
		data = fmt.Appendf(data, "needle%d ", n/needles)
	}
	const words = "has been received and will leave the warehouse of Rotterdam in three working days "
	for len(data) < 126 {
		data = append(data, words[:min(len(words), 126-len(data))]...)
	}
	return fmt.Appendf(nil, `{"channel":"public.c%d","data":%s"}}`+"\n", n%100, data[:126])
}

func (b *burst) post(ingest string, n int, body io.Reader) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+ingest+"/v1/messages", body)
	if err != nil {
		return err
	}
	req.Header.Set("X-API-KEY", apiKey)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b.seqs = make([]uint64, 0, n)
	var last struct {
		proto.Result
		Done           bool
		Stored, Failed int
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			return fmt.Errorf("answer %q: %w", lines.Text(), err)
		}
		if last.Done {
			break
		}
		at, err := proto.ParseCursor(last.ID)
		if err != nil || last.Status != proto.StatusStored || last.Line != len(b.seqs)+1 {
			return fmt.Errorf("answer %q, want line %d to be stored: %w", lines.Text(), len(b.seqs)+1, err)
		}
		b.seqs = append(b.seqs, at.Seq)
		b.stored.Store(int64(len(b.seqs)))
	}
	if !last.Done || last.Stored != n || last.Failed != 0 || len(b.seqs) != n {
		return fmt.Errorf("the answer ended with %+v after %d lines, want %d stored", last, len(b.seqs), n)
	}
	return nil
}

// burstChannel is one of the channels of burstLine.
const burstChannel = "public.c1"

// judge holds the log, and what clients received, against the answer.
func (b *burst) judge(sys *system) verdict {
	sys.t.Helper()
	for i, seq := range b.seqs {
		sys.ledger.messages[seq] = message{n: uint64(i + 1), channel: fmt.Sprintf("public.c%d", (i+1)%100)}
	}
	v := verdict{published: sys.ledger.len()}
	if v.published != len(b.seqs) {
		v.wrong(&v.duplicated, "%d messages got %d ids", len(b.seqs), v.published)
	}
	natstest.Eventually(sys.t, time.Minute, "every client has the messages of its channel", func() bool {
		for _, c := range sys.clients {
			if c.received() < len(b.seqs)/100 {
				return false
			}
		}
		return true
	})
	for _, c := range sys.clients {
		c.stop()
		v.add(c.judge(sys.ledger))
	}
	v.add(sys.judgeLog())
	v.received, v.stall = sys.rows(), 0 // there is no telling when a line of a stream was published
	if !v.perfect() {
		sys.t.Errorf("%d lost, %d duplicated, want none: %v", v.lost, v.duplicated, v.examples)
	}
	return v
}
