package store

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/herald-push/herald/proto"
)

// Filter says which rows are wanted. Every member that is set must fit.
type Filter struct {
	Channel string   // a channel or pattern
	Allowed []string // patterns of which one must match the channel; nil: all
	Sender  string   // exact
	Event   string   // exact
	After   time.Time
	Before  time.Time // After is included, Before is not
	// Search has words that must all occur in the message; "word*" is a
	// prefix. Upper and lower case are the same.
	Search string
	Asc    bool   // oldest first; else newest first
	Limit  int    // rows of a page; 0: DefaultLimit
	Bytes  int    // of messages, which end a page before Limit does; 0: pageBytes
	Cursor string // the Next of the page before; "": from the beginning
}

// Limits of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
	// pageBytes of messages end a page before its limit does: a thousand of
	// them could have 64 MiB.
	pageBytes = 8 << 20
)

// ErrFilter is wrapped by the errors of filters that make no sense, other
// than in Channel (proto.ErrChannel), Cursor (proto.ErrCursor) and Search
// (ErrSearch).
var ErrFilter = errors.New("invalid filter")

// Check reports whether a query can be made of the filter.
func (f Filter) Check() error {
	_, err := f.compile()
	return err
}

// matcher is a filter made ready.
type matcher struct {
	Filter
	after, before string // proto.TimeLayout; "": no limit
	cursor        proto.Cursor
	phrases       []phrase
	words         words
	// match is what the index can answer: a query of FTS5 for a superset of the
	// rows; "": nothing.
	match string
	// times are the sequences of the rows between After and Before, by epoch.
	times map[string]span
}

func (f Filter) compile() (*matcher, error) {
	m := &matcher{Filter: f}
	var err error
	if f.Channel != "" {
		if err := proto.CheckPattern(f.Channel); err != nil {
			return nil, err
		}
	}
	if m.after, err = bound(f.After); err != nil {
		return nil, err
	}
	if m.before, err = bound(f.Before); err != nil {
		return nil, err
	}
	if f.Search != "" {
		if m.phrases, err = parseSearch(f.Search); err != nil {
			return nil, err
		}
	}
	if f.Cursor != "" {
		if m.cursor, err = proto.ParseCursor(f.Cursor); err != nil {
			return nil, err
		}
		if m.cursor.Seq > math.MaxInt64 {
			return nil, fmt.Errorf("%w: the sequence in %q is too large", proto.ErrCursor, f.Cursor)
		}
	}
	if f.Limit < 0 || f.Limit > MaxLimit {
		return nil, fmt.Errorf("%w: limit %d; it may be 1 to %d", ErrFilter, f.Limit, MaxLimit)
	}
	if f.Limit == 0 {
		m.Limit = DefaultLimit
	}
	if f.Bytes <= 0 {
		m.Bytes = pageBytes
	}
	m.match = matchOf(m)
	return m, nil
}

// Limits beyond what a row's timestamp can be, in the order of text.
const beforeAll, afterAll = " ", "~"

// bound writes a limit in the rows' layout. Rows have whole milliseconds, so
// rounding up keeps both "at or after" and "before" true.
func bound(t time.Time) (string, error) {
	if t.IsZero() {
		return "", nil
	}
	if r := t.Truncate(time.Millisecond); r.Before(t) {
		t = r.Add(time.Millisecond)
	}
	switch y := t.UTC().Year(); { // rows have years of four digits
	case y > 9999:
		return afterAll, nil
	case y < 0:
		return beforeAll, nil
	}
	return proto.FormatTime(t), nil
}

// matches checks the row itself.
func (m *matcher) matches(r *Row) bool {
	if m.Channel != "" && !proto.Match(m.Channel, r.Channel) ||
		m.Allowed != nil && !proto.MatchAny(m.Allowed, r.Channel) ||
		m.Sender != "" && m.Sender != r.Sender ||
		m.Event != "" && m.Event != r.Event ||
		m.after != "" && r.Timestamp < m.after ||
		m.before != "" && r.Timestamp >= m.before {
		return false
	}
	if len(m.phrases) == 0 {
		return true
	}
	m.words.split(searchable(r.Message))
	for _, p := range m.phrases {
		if !p.in(&m.words) {
			return false
		}
	}
	return true
}
