package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// defaultLimit and maxLimit are how many messages a page of history has at
	// most, as GET /v1/log has.
	defaultLimit = 100
	maxLimit     = 1000
	// pageBytes is where a page ends before its limit: what one POST may bring,
	// one GET takes away. One message is always on it, however large.
	pageBytes = 8 << 20
	// maxPages is how many pages are made at once, each of twice pageBytes in
	// memory; further requests wait. It bounds memory, not work: a page of a
	// hundred messages takes milliseconds.
	maxPages = 16
	// historyTimeout bounds the making of one page, the wait for a place among
	// maxPages included.
	historyTimeout = 10 * time.Second
	// lagPause is how long a replica is given to catch up with its leader.
	lagPause = 20 * time.Millisecond
)

// historyQuery is what a request for history asks for.
type historyQuery struct {
	pattern string       // a channel, or a pattern
	since   string       // proto.SinceAll, proto.SinceLast or an id
	id      proto.Cursor // what since says where it is an id
	limit   int
}

// historyPage is one page: messages in stream order, and the place up to which
// it is complete. more says that the stream has further ones behind that.
type historyPage struct {
	messages []natsx.Received
	end      proto.Cursor
	more     bool
}

// getHistory is GET /v1/channels/{channel}/messages: what the stream keeps of
// a channel or pattern, page by page. It reads by direct get and makes no
// consumer, so a poller that goes away leaves nothing behind in NATS. What is
// read does not count against the key's rate, which is one of messages sent.
func (s *Service) getHistory(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	q, err := historyParameters(r)
	if err != nil {
		return err
	}
	if !g.May(q.pattern) {
		return proto.ProblemForbidden.With(fmt.Sprintf("the key %q may not read %s", g.Name, q.pattern))
	}
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	select {
	case s.pages <- struct{}{}:
		defer func() { <-s.pages }()
	case <-ctx.Done():
		return proto.ProblemUnavailable.With("too much history is being read at the moment")
	}
	page, err := s.history(ctx, q)
	if err != nil {
		return s.historyProblem(err)
	}
	body := page.body()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	// No ETag either: a poller that is up to date gets a hundred bytes, and to
	// know that it is up to date is all the work there is.
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // a client that hung up misses only its own answer
	return nil
}

// historyParameters reads what stands in the URL. Errors are problems.
func historyParameters(r *http.Request) (historyQuery, error) {
	wrong := func(name string, err error) (historyQuery, error) {
		return historyQuery{}, proto.ProblemInvalidParameter.With(name + ": " + err.Error())
	}
	q := historyQuery{since: proto.SinceAll, limit: defaultLimit}
	var err error
	if q.pattern, err = pathChannel(r); err == nil {
		err = proto.CheckPattern(q.pattern)
	}
	if err != nil {
		return wrong("channel", err)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return wrong("query", err)
	}
	for name, values := range query {
		if len(values) > 1 {
			return wrong(name, errors.New("given more than once"))
		}
		switch v := values[0]; name {
		case "since":
			if q.since = v; v != proto.SinceAll && v != proto.SinceLast {
				q.id, err = proto.ParseCursor(v)
			}
		case "limit":
			q.limit, err = strconv.Atoi(v)
			if err != nil || q.limit < 1 || q.limit > maxLimit {
				err = errors.New("want a number from 1 to " + strconv.Itoa(maxLimit))
			}
		default:
			err = errors.New("unknown parameter; known are since and limit")
		}
		if err != nil {
			return wrong(name, err)
		}
	}
	if q.since == proto.SinceLast && proto.IsPattern(q.pattern) {
		return wrong("since", errors.New("last is of one channel, not of a pattern"))
	}
	return q, nil
}

// history reads a page. The stream is looked at before and after: before, so
// that it is known up to where a page without more to come is complete; after,
// because retention does not wait for readers.
func (s *Service) history(ctx context.Context, q historyQuery) (historyPage, error) {
	before, err := s.look(ctx)
	if err != nil {
		return historyPage{}, err
	}
	since, err := before.place(q)
	if err != nil {
		return historyPage{}, err
	}
	var page historyPage
	if q.since == proto.SinceLast {
		page, err = s.newest(ctx, q.pattern, before.at)
	} else {
		page, err = s.after(ctx, q, since, before.at)
	}
	if err != nil {
		return historyPage{}, err
	}
	after, err := s.look(ctx)
	if err != nil {
		return historyPage{}, err
	}
	switch {
	case q.id.Epoch != "":
		if _, err := after.place(q); err != nil {
			return historyPage{}, err
		}
	case after.at.Epoch != before.at.Epoch:
		return historyPage{}, proto.ProblemUnavailable.With("the stream was made anew meanwhile")
	case q.since == proto.SinceAll:
		page.expire(after.first)
	}
	return page, nil
}

// extent is what the stream has: the first sequence that it keeps, and the
// place of its newest message, kept or not.
type extent struct {
	first uint64 // one more than at.Seq where nothing is kept
	at    proto.Cursor
}

// look asks the stream's leader.
func (s *Service) look(ctx context.Context) (extent, error) {
	found, err := s.js.Stream(ctx, proto.Stream)
	if err != nil {
		return extent{}, fmt.Errorf("read the state of stream %s: %w", proto.Stream, err)
	}
	info := found.CachedInfo()
	return extent{
		first: max(info.State.FirstSeq, 1), // 0 before the first message
		at:    proto.Cursor{Epoch: proto.EpochOf(info.Created), Seq: info.State.LastSeq},
	}, nil
}

// place is the sequence after which a page begins. The error is the problem
// gone: messages behind that id may be missing, and nobody could say which.
func (e extent) place(q historyQuery) (uint64, error) {
	switch {
	case q.since == proto.SinceAll:
		return e.first - 1, nil
	case q.since == proto.SinceLast:
		return e.at.Seq, nil
	case q.id.Epoch != e.at.Epoch, q.id.Seq > e.at.Seq:
		return 0, proto.ProblemGone.With("since: " + q.since + " is not in this stream: it is of another one, or was never given out; since=all starts over")
	case q.id.Seq+1 < e.first:
		return 0, proto.ProblemGone.With("since: what came after " + q.since + " is no longer kept; since=all starts over")
	}
	return q.id.Seq, nil
}

// after reads the messages after since. at is a place that the stream has
// reached: a page behind which there is nothing is complete up to there.
func (s *Service) after(ctx context.Context, q historyQuery, since uint64, at proto.Cursor) (historyPage, error) {
	for {
		got, err := natsx.Fetch(ctx, s.nc, natsx.Query{Pattern: q.pattern, From: since + 1, Batch: q.limit, MaxBytes: pageBytes})
		if err != nil {
			return historyPage{}, err
		}
		last := since
		if n := len(got.Messages); n > 0 {
			last = got.Messages[n-1].Seq
		}
		page := historyPage{messages: got.Messages, end: proto.Cursor{Epoch: at.Epoch, Seq: last}, more: got.More}
		if page.more {
			return page, nil
		}
		// The end of what a replica has; its leader may have more.
		next, err := natsx.Next(ctx, s.nc, q.pattern, last+1)
		switch {
		case err != nil:
			return historyPage{}, err
		case next == 0:
			page.end.Seq = max(last, at.Seq)
			return page, nil
		case len(page.messages) > 0:
			page.end.Seq, page.more = next-1, true
			return page, nil
		}
		if err := pause(ctx); err != nil {
			return historyPage{}, err
		}
	}
}

// newest reads the newest message of a channel, which is at at or before.
func (s *Service) newest(ctx context.Context, channel string, at proto.Cursor) (historyPage, error) {
	page := historyPage{end: at}
	if at.Seq == 0 {
		return page, nil // nothing is stored
	}
	for {
		var err error
		page.messages, err = natsx.FetchLast(ctx, s.nc, []string{channel}, at.Seq)
		if !errors.Is(err, natsx.ErrBehind) {
			return page, err
		}
		if err := pause(ctx); err != nil {
			return historyPage{}, err
		}
	}
}

// pause waits for a replica that is behind.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lagPause):
		return nil
	}
}

// expire takes away what the stream dropped while the page was being read:
// from the first message on a page has no holes.
func (p *historyPage) expire(first uint64) {
	for len(p.messages) > 0 && p.messages[0].Seq < first {
		p.messages = p.messages[1:]
	}
	p.end.Seq = max(p.end.Seq, first-1)
}

// body writes the page, such as
//
//	{"messages":[{"id":"mib3k2x9-1024","channel":"orders.eu",…}],"next":"mib3k2x9-1024","more":false}
//
// without decoding the messages. One that is no JSON, which only a stranger
// can have stored, is left out: it would spoil the page for good.
func (p *historyPage) body() []byte {
	size := 128
	for _, m := range p.messages {
		size += len(m.Body) + 80 // the id, its quotes and name
	}
	b := append(make([]byte, 0, size), `{"messages":[`...)
	begin := len(b)
	for _, m := range p.messages {
		if !json.Valid(m.Body) {
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b = proto.AppendWithID(b, proto.Cursor{Epoch: p.end.Epoch, Seq: m.Seq}, m.Body)
	}
	b = append(b, `],"next":"`...)
	b = p.end.AppendTo(b)
	b = append(b, `","more":`...)
	b = strconv.AppendBool(b, p.more)
	return append(b, "}\n"...)
}

// historyProblem is the problem of a page that could not be read. What is not
// the caller's fault may be asked for again, and is.
func (s *Service) historyProblem(err error) error {
	var p *proto.Problem
	switch {
	case errors.As(err, &p):
		return p
	case disconnected(err):
		return proto.ProblemUnavailable.With("NATS is not connected")
	case errors.Is(err, context.Canceled): // the caller hung up
		return proto.ProblemUnavailable
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return proto.ProblemUnavailable.With("NATS has no stream to read at the moment")
	}
	s.publisher.warn("history cannot be read", "err", err)
	return proto.ProblemUnavailable.With("the stream does not answer")
}
