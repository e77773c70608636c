// Package audit keeps what administrators do: who did what to what, when and
// from where, and how it was before and after. It never has a secret.
//
// An action is written down before it is done (Begin), and again with what came of it
// (End): so nothing is done that the audit does not have, though it may lack the outcome.
// Page shows both as one row, and what was refused not at all.
//
// The rows are messages of the stream HERALD_AUDIT, as JSON. It is bounded: the
// oldest rows go first. Refused logins, which strangers can cause, have a
// subject and a bound of their own, so that they push nothing else out.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Stream is the stream's name.
const Stream = "HERALD_AUDIT"

const (
	subjectDone    = "herald.audit.done"
	subjectRefused = "herald.audit.refused"
	// maxRows bounds the rows of each subject, maxBytes all of them, maxAge how
	// long they are kept.
	maxRows  = 50_000
	maxBytes = 64 << 20
	maxAge   = 2 * 365 * 24 * time.Hour
	// maxValue bounds before and after of one row.
	maxValue = 4 << 10
	// MaxLimit bounds a page.
	MaxLimit = 500
	// chunk rows are read at once; a page reads maxChunks of them at most, and
	// then says where to go on.
	chunk     = 500
	maxChunks = 10
	// fetchWait bounds how long NATS may take to hand over what it has.
	fetchWait = 5 * time.Second
)

// Refused begins the actions of somebody who was refused.
const Refused = "refused"

// Row is one action.
//
//	{"time":"2026-11-28T16:58:36.123Z","user":"anna","role":"admin","address":"203.0.113.7",
//	 "action":"key.revoke","target":"shop","before":{…},"after":null}
type Row struct {
	Time    time.Time       `json:"time"`
	User    string          `json:"user"`
	Role    string          `json:"role"`
	Address string          `json:"address"`
	Action  string          `json:"action"`
	Target  string          `json:"target"`
	Before  json.RawMessage `json:"before"`
	After   json.RawMessage `json:"after"`
	// Outcome is empty for what was done, as it was for every row before there were
	// others.
	Outcome Outcome `json:"outcome,omitempty"`
	// Begun is the sequence in the stream of the row that Begin wrote; 0: there is none.
	Begun uint64 `json:"begun,omitempty"`
}

// Outcome is what came of an action.
type Outcome string

// The outcomes.
const (
	Done    Outcome = ""        // After is how it was then
	Begun   Outcome = "begun"   // what came of it was not written down
	Failed  Outcome = "failed"  // perhaps in part; After says why
	Nothing Outcome = "nothing" // refused, and nothing was changed: Page leaves it out
)

// Value makes what stands before or after of v. What is too long is told to be.
func Value(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil || len(b) > maxValue {
		b = fmt.Appendf(nil, `"(%d bytes)"`, len(b))
	}
	return b
}

// Log reads and writes the rows. Safe for concurrent use.
type Log struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open finds the stream, or makes it with this many replicas.
func Open(ctx context.Context, js jetstream.JetStream, replicas int) (*Log, error) {
	cfg := jetstream.StreamConfig{
		Name: Stream, Description: "What administrators of Herald do", Subjects: []string{subjectDone, subjectRefused},
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, MaxMsgsPerSubject: maxRows, MaxBytes: maxBytes,
		MaxAge: maxAge, Replicas: max(1, replicas),
	}
	stream, err := js.Stream(ctx, Stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		// another process was quicker
		if stream, err = js.CreateStream(ctx, cfg); errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = js.Stream(ctx, Stream)
		}
	case err == nil && stream.CachedInfo().Config.Replicas != cfg.Replicas:
		has := stream.CachedInfo().Config
		has.Replicas = cfg.Replicas
		if updated, err := js.UpdateStream(ctx, has); err == nil { // else it is tried again at the next start
			stream = updated
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", Stream, err)
	}
	return &Log{js, stream}, nil
}

// Find finds the stream, for who must not make it. The error is
// jetstream.ErrStreamNotFound where no console has made it.
func Find(ctx context.Context, js jetstream.JetStream) (*Log, error) {
	stream, err := js.Stream(ctx, Stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", Stream, err)
	}
	return &Log{js, stream}, nil
}

// Begin stores the row of an action that is about to be done. Its After is what is
// intended. The result is for End.
func (l *Log) Begin(ctx context.Context, r Row) (begun uint64, err error) {
	r.Outcome = Begun
	return l.add(ctx, r)
}

// End stores what came of an action that Begin has stored.
func (l *Log) End(ctx context.Context, begun uint64, r Row) error {
	r.Begun = begun
	return l.Add(ctx, r)
}

// Add stores a row of what has happened.
func (l *Log) Add(ctx context.Context, r Row) error {
	_, err := l.add(ctx, r)
	return err
}

func (l *Log) add(ctx context.Context, r Row) (uint64, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	subject := subjectDone
	if strings.HasSuffix(r.Action, "."+Refused) {
		subject = subjectRefused
	}
	ack, err := l.js.Publish(ctx, subject, b)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// Query says which rows a page has; what is empty does not matter.
type Query struct {
	User   string
	Action string // or its beginning, such as key for key.add and key.revoke
	Cursor string // of the page before
	Limit  int
}

// ErrCursor is of a cursor that no page gave.
var ErrCursor = errors.New("cursor: it is not one that a page has given")

// Page returns rows, the newest first, and the cursor of the next page; empty:
// there are no more. It reads a bounded number of rows: with a filter a page may
// be short, or empty, and have a next one.
func (l *Log) Page(ctx context.Context, q Query) (rows []Row, next string, err error) {
	rows = []Row{}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit: %w", err)
	}
	newest, oldest := info.State.LastSeq, info.State.FirstSeq
	if info.State.Msgs == 0 {
		return rows, "", nil
	}
	if q.Cursor != "" {
		below, err := strconv.ParseUint(q.Cursor, 10, 64)
		if err != nil || below == 0 {
			return nil, "", ErrCursor
		}
		newest = min(newest, below-1)
	}
	limit := min(max(1, q.Limit), MaxLimit)
	ended, err := l.endedAbove(ctx, newest, info.State.LastSeq)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit: %w", err)
	}
	for range maxChunks {
		if newest < oldest || newest == 0 {
			return rows, "", nil
		}
		from := max(oldest, newest-min(newest-1, chunk-1))
		found, err := l.read(ctx, from, newest)
		if err != nil {
			return nil, "", fmt.Errorf("read the audit: %w", err)
		}
		for i := len(found) - 1; i >= 0; i-- {
			if ended.has(found[i]) || !q.fits(found[i].Row) {
				continue
			}
			if len(rows) == limit {
				return rows, strconv.FormatUint(found[i].seq+1, 10), nil
			}
			rows = append(rows, found[i].Row)
		}
		newest = from - 1
	}
	if newest < oldest {
		return rows, "", nil
	}
	return rows, strconv.FormatUint(newest+1, 10), nil
}

// endings are the rows of Begin whose outcome is known, by sequence.
type endings map[uint64]bool

// has reports whether a row is not to be shown: another row, a newer one, says what came
// of the action, or nothing came of it. Rows are given the newest first.
func (e endings) has(r stored) bool {
	if r.Begun > 0 {
		e[r.Begun] = true
	}
	return r.Outcome == Nothing || r.Outcome == Begun && e[r.seq]
}

// lookBack is how many rows before a page are searched for outcomes of its rows: those of
// actions that others did while one was under way.
const lookBack = 200

// endedAbove are the endings in the rows that precede a page which begins with newest.
func (l *Log) endedAbove(ctx context.Context, newest, last uint64) (endings, error) {
	ended := endings{}
	if newest >= last {
		return ended, nil
	}
	above, err := l.read(ctx, newest+1, min(last, newest+lookBack))
	for _, r := range above {
		ended.has(r)
	}
	return ended, err
}

func (q *Query) fits(r Row) bool {
	action := strings.TrimSuffix(q.Action, ".")
	return (q.User == "" || strings.EqualFold(q.User, r.User)) &&
		(action == "" || r.Action == action || strings.HasPrefix(r.Action, action+"."))
}

type stored struct {
	Row
	seq uint64
}

// read returns the rows of these sequences, in their order.
func (l *Log) read(ctx context.Context, from, to uint64) (rows []stored, err error) {
	c, err := l.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 2 * fetchWait,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		forget, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWait)
		defer cancel()
		_ = l.stream.DeleteConsumer(forget, c.CachedInfo().Name) // it goes by itself otherwise
	}()
	batch, err := c.FetchNoWait(int(to-from) + 1)
	if err != nil {
		return nil, err
	}
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil || meta.Sequence.Stream > to {
			continue
		}
		var r Row
		if json.Unmarshal(msg.Data(), &r) == nil { // what is none of ours says nothing
			rows = append(rows, stored{r, meta.Sequence.Stream})
		}
	}
	return rows, batch.Error()
}
