package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

const (
	// tailRate is how many messages a second a page gets, and how many at once. What comes beyond it is counted.
	tailRate = 50
	// tailTick is how often the rate is looked at.
	tailTick = 100 * time.Millisecond
	// maxTails are open at once: each reads everything that is published.
	maxTails       = 16
	maxTailsOfUser = 4
	// tailBuffer is how many NATS messages may wait for one tail.
	tailBuffer = 1024
	// sessionCheck is how often a tail looks whether its session still holds, and has facts of messages kept.
	sessionCheck = 10 * time.Second
	// tailWrite is how long a page may take to read what it is sent.
	tailWrite = 10 * time.Second
)

// tail is one page that watches what is published, as an event stream:
//
//	event: state     {"connected":true}                     at the beginning, and when it changes
//	event: message   {"bytes":17,"id":…,"channel":…,…}       as subscribers get it
//	event: dropped   {"count":3,"total":120}                 messages that matched and were too many
type tail struct {
	s      *Service
	w      http.ResponseWriter
	rc     *http.ResponseController
	filter tailFilter
	epochs natsx.Epochs

	left    int // messages that may be sent before the next tick
	dropped int // since it was last said
	total   int // dropped in all
	missed  int // NATS messages that nats.go dropped
	state   bool
}

// tailFilter is what a tail shows.
type tailFilter struct {
	channel, sender, event string // empty: any
	text                   []byte // in lower case
}

// getTail shows what is published until the page leaves, or its session ends.
func (s *Service) getTail(w http.ResponseWriter, r *http.Request, c *call) error {
	values, err := httpx.Query(r, nil, "channel", "sender", "event", "text")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	filter, err := readTail(values)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		return nil
	}
	free, err := s.tails.Acquire(c.user)
	if err != nil {
		return proto.ProblemTooManyRequests.With(fmt.Sprintf("%d tails may be open at once, %d of one user", maxTails,
			maxTailsOfUser))
	}
	defer free()
	info, err := s.streamInfo(r.Context())
	if err != nil {
		return proto.ProblemUnavailable.With("the stream does not answer: " + trouble(err))
	}
	live := make(chan *nats.Msg, tailBuffer) // NATS writes; never closed
	sub, err := s.nc.ChanSubscribe(proto.SubjectLive+">", live)
	if err != nil {
		return proto.ProblemUnavailable.With(err.Error())
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	t := &tail{s: s, w: w, rc: http.NewResponseController(w), filter: filter, epochs: natsx.StateOf(info).Epochs,
		state: true}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses holds events back
	h.Set("X-Accel-Buffering", "no")                 // nginx holds answers back otherwise
	t.run(r, live, sub)
	return nil
}

func readTail(values url.Values) (f tailFilter, err error) {
	f = tailFilter{channel: values.Get("channel"), sender: values.Get("sender"), event: values.Get("event"),
		text: bytes.ToLower([]byte(values.Get("text")))}
	if f.channel != "" {
		if err := proto.CheckPattern(f.channel); err != nil {
			return f, proto.ProblemInvalidParameter.With("channel: " + err.Error())
		}
	}
	return f, nil
}

// run sends events until the client is gone, the session ends, or the console stops.
func (t *tail) run(r *http.Request, live <-chan *nats.Msg, sub *nats.Subscription) {
	tick, check := time.NewTicker(tailTick), time.NewTicker(t.s.recheck)
	defer tick.Stop()
	defer check.Stop()
	t.left = tailRate
	t.s.awaitMessages(r.Context())
	if !t.event("state", stateData(true)) {
		return
	}
	for {
		ok := true
		select {
		case <-r.Context().Done():
			return
		case <-t.s.stopping:
			return
		case msg := <-live:
			ok = t.receive(msg)
		case <-tick.C:
			ok = t.tick(sub)
		case <-check.C:
			if c, err := t.s.authenticate(background(r)); err != nil || c.user == "" {
				return // the page asks for a login
			}
			t.s.watchMessages(r.Context())
			if info, err := t.s.streamInfo(r.Context()); err == nil {
				t.epochs = natsx.StateOf(info).Epochs
			}
			ok = t.write([]byte(": \n\n"))
		}
		if !ok {
			return
		}
	}
}

// background is a request that does not keep its session alive.
func background(r *http.Request) *http.Request {
	quiet := r.Clone(r.Context())
	quiet.Header.Set(backgroundHeader, "1")
	return quiet
}

// tracing are the services that keep what becomes of messages while somebody asks for it, so that the paths of those
// that the tail shows can be told.
var tracing = []string{ask.Gateway, ask.Ingest}

// awaitMessages asks the services in tracing to begin, and returns when all of them that answer within a second have
// begun: of a message that is published after that, the path is known.
func (s *Service) awaitMessages(ctx context.Context) {
	var all sync.WaitGroup
	for _, service := range tracing {
		all.Go(func() {
			_, silent, err := ask.All[json.RawMessage](ctx, s.ask, service, ask.MessagePath, ask.PathQuestion{})
			if (err != nil || len(silent) > 0) && ctx.Err() == nil {
				s.log.Debug("some paths of messages will not be known", "silent", silent, "err", err)
			}
		})
	}
	all.Wait()
}

// watchMessages has them go on.
func (s *Service) watchMessages(ctx context.Context) {
	for _, service := range tracing {
		b, err := json.Marshal(ask.PathQuestion{})
		if err == nil {
			err = s.nc.Publish(ask.Subject(service, ask.MessagePath), b) // nobody waits for the answers
		}
		if err != nil && ctx.Err() == nil {
			s.log.Debug("paths of messages will not be known", "err", err)
		}
	}
}

// tick allows more messages, and says how many were dropped.
func (t *tail) tick(sub *nats.Subscription) (ok bool) {
	t.left = min(t.left+tailRate*int(tailTick/time.Millisecond)/1000, tailRate)
	if n, err := sub.Dropped(); err == nil && n > t.missed { // whether they matched, nobody knows
		t.dropped += n - t.missed
		t.missed = n
	}
	if connected := t.s.nc.IsConnected(); connected != t.state {
		t.state = connected
		if !t.event("state", stateData(connected)) {
			return false
		}
	}
	if t.dropped == 0 {
		return true
	}
	t.total += t.dropped
	data := fmt.Appendf(nil, `{"count":%d,"total":%d}`, t.dropped, t.total)
	t.dropped = 0
	return t.event("dropped", data)
}

func stateData(connected bool) []byte { return fmt.Appendf(nil, `{"connected":%t}`, connected) }

// receive sends the messages of a pack that match.
func (t *tail) receive(msg *nats.Msg) (ok bool) {
	p, err := natsx.OpenPack(msg)
	if err != nil {
		return true // none of Herald's
	}
	for p.Next() {
		body := p.Message()
		if body == nil || t.filter.channel != "" && !proto.Match(t.filter.channel, string(p.Channel())) {
			continue
		}
		if len(t.filter.text) > 0 && !bytes.Contains(bytes.ToLower(body), t.filter.text) {
			continue
		}
		full := body
		if p.Seq > 0 {
			number := proto.Number(p.Seq, p.Place())
			full = proto.AppendWithID(nil, proto.Cursor{Epoch: t.epochs.At(p.Seq), Seq: number}, body)
		}
		m, err := proto.ParseMessage(full)
		if err != nil || t.filter.sender != "" && m.Sender != t.filter.sender || t.filter.event != "" &&
			m.Event != t.filter.event {
			continue
		}
		if t.left == 0 {
			t.dropped++
			continue
		}
		t.left--
		data := fmt.Appendf(nil, `{"bytes":%d,`, len(m.Data))
		if !t.event("message", append(data, full[1:]...)) {
			return false
		}
	}
	return true
}

// event sends one event. data is one line, or JSON in which line breaks mean nothing.
func (t *tail) event(name string, data []byte) (ok bool) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r"), []byte(" ")),
		[]byte("\n"), []byte(" ")))
	return t.write(b.Bytes())
}

func (t *tail) write(b []byte) (ok bool) {
	_ = t.rc.SetWriteDeadline(time.Now().Add(tailWrite)) // fails only if there is none
	if _, err := t.w.Write(b); err != nil {
		return false
	}
	return t.rc.Flush() == nil
}
