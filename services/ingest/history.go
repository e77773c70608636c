package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
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
	// one GET returns. One message is always on it, however large.
	pageBytes = 8 << 20
	// maxPages is how many pages are made at once, each of twice pageBytes in
	// memory; further requests wait. It bounds memory, not work: a page of a
	// hundred messages takes milliseconds.
	maxPages = 16
	// maxPagesOfKey of them may be one key's: a page lasts until its reader has
	// it, and some read slowly.
	maxPagesOfKey = 6
	// historyTimeout bounds the making of one page, the wait for a place among
	// maxPages included.
	historyTimeout = 10 * time.Second
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
	epochs   natsx.Epochs // of the ids
	end      uint64
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
	free, err := s.pages.Wait(ctx, g.KeyID)
	if err != nil {
		return proto.ProblemUnavailable.With("too much history is being read at the moment: " + err.Error())
	}
	defer free()
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
	query, err := parameters(r, "since", "limit")
	if err != nil {
		return historyQuery{}, err
	}
	for name, values := range query {
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

// history reads a page. The stream is asked before, so that it is known up to
// where a page without more to come is complete, and after, because it may have
// been made anew meanwhile.
func (s *Service) history(ctx context.Context, q historyQuery) (historyPage, error) {
	before, err := s.reader.State(ctx)
	if err != nil {
		return historyPage{}, err
	}
	page := historyPage{epochs: before.Epochs, end: proto.EndOf(before.Last)}
	if q.since == proto.SinceLast {
		page.messages, err = s.reader.Last(ctx, []string{q.pattern}, page.end, pageBytes)
		if err != nil {
			return historyPage{}, err
		}
	} else {
		since, err := place(q, before)
		if err != nil {
			return historyPage{}, err
		}
		got, err := s.reader.Read(ctx, natsx.Range{
			Names: []string{q.pattern}, Since: since, UpTo: page.end, Messages: q.limit, Bytes: pageBytes,
		})
		if err != nil {
			return historyPage{}, err
		}
		if got.Missing > 0 && got.Why == natsx.Damaged && q.since != proto.SinceAll {
			return historyPage{}, proto.ProblemGone.With("since: some of what came after " + q.since +
				" is lost, since the stream is damaged there; since=" +
				page.id(got.Missing).String() + " goes on behind it")
		}
		page.messages, page.more, page.end = got.Messages, got.End < page.end, got.End
	}
	after, err := s.reader.State(ctx)
	if err != nil {
		return historyPage{}, err
	}
	switch {
	case q.id.Epoch != "":
		if _, err := place(q, after); err != nil {
			return historyPage{}, err
		}
	case !after.Epochs.Same(before.Epochs, before.Last):
		return historyPage{}, proto.ProblemUnavailable.With("the stream was made anew meanwhile")
	}
	return page, nil
}

// place is the sequence after which a page begins. The error is the problem
// gone: messages behind that id may be missing, and nobody could say which.
func place(q historyQuery, state natsx.State) (uint64, error) {
	begins, lost := state.Epochs.Lost(q.id.Epoch, proto.PackOf(q.id.Seq))
	begins = max(begins, state.First)
	switch {
	case q.since == proto.SinceAll:
		return proto.EndOf(state.First - 1), nil
	case lost:
		return 0, proto.ProblemGone.With("since: " + q.since +
			" is lost, and what was stored around it may be; since=" +
			proto.Cursor{Epoch: state.Epochs.At(begins - 1), Seq: proto.EndOf(begins - 1)}.String() +
			" goes on behind it")
	case proto.PackOf(q.id.Seq) > state.Last, !state.Epochs.Known(q.id.Epoch, proto.PackOf(q.id.Seq)):
		return 0, proto.ProblemGone.With("since: " + q.since +
			" is not in this stream: it is of another one, or was never given out; since=all starts over")
	case natsx.FirstAfter(q.id.Seq) < state.First:
		return 0, proto.ProblemGone.With("since: what came after " + q.since +
			" is no longer kept; since=all starts over")
	}
	return q.id.Seq, nil
}

func (p *historyPage) id(number uint64) proto.Cursor {
	return proto.Cursor{Epoch: p.epochs.At(proto.PackOf(number)), Seq: number}
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
		b = proto.AppendWithID(b, p.id(m.Number), m.Body)
	}
	b = append(b, `],"next":"`...)
	b = p.id(p.end).AppendTo(b)
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
	case publish.Disconnected(err):
		return proto.ProblemUnavailable.With("NATS is not connected")
	case errors.Is(err, context.Canceled): // the caller hung up
		return proto.ProblemUnavailable
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return proto.ProblemUnavailable.With("NATS has no stream to read at the moment")
	}
	s.publisher.Warn("history cannot be read", "err", err)
	return proto.ProblemUnavailable.With("the stream does not answer")
}
