package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
)

// Page is an answer to Query.
type Page struct {
	Rows []Row
	// Next is the cursor of the next page; "" on the last one. A page with a
	// Next may be short, even empty: the search reached its time limit and goes on there.
	Next string
}

// Query returns one page of the rows that fit the filter, in stream order.
// Rows that arrive between two pages do not shift the second one.
func (s *Store) Query(ctx context.Context, f Filter) (Page, error) {
	m, err := f.compile()
	if err != nil {
		return Page{}, err
	}
	page, err := s.query(ctx, m)
	if err != nil {
		return Page{}, fmt.Errorf("query the log: %w", err)
	}
	return page, nil
}

// Export calls each for every row that fits, page by page: no snapshot of the
// file is held while each waits for its reader, so the WAL can be emptied.
// Limit does not count. Rows stored after the call may be missing.
func (s *Store) Export(ctx context.Context, f Filter, each func(*Row) error) error {
	f.Limit = MaxLimit
	m, err := f.compile()
	if err != nil {
		return err
	}
	end, err := s.newest(ctx)
	if err != nil {
		return fmt.Errorf("export the log: %w", err)
	}
	for {
		page, err := s.query(ctx, m)
		if err != nil {
			return fmt.Errorf("export the log: %w", err)
		}
		for i := range page.Rows {
			if r := &page.Rows[i]; !f.Asc || compareKeys(r.key(), end) <= 0 {
				if err := each(r); err != nil {
					return err
				}
			}
		}
		if page.Next == "" {
			return nil
		}
		if m.cursor, err = proto.ParseCursor(page.Next); err != nil {
			return fmt.Errorf("export the log: %w", err)
		}
		if f.Asc && compareKeys(m.cursor, end) >= 0 {
			return nil
		}
	}
}

// newest is the highest key of the file.
func (s *Store) newest(ctx context.Context) (proto.Cursor, error) {
	var c proto.Cursor
	err := s.readers.QueryRowContext(ctx,
		"SELECT e.epoch, coalesce((SELECT max(seq) FROM messages m WHERE m.epoch = e.epoch), 0) "+
			"FROM epochs e ORDER BY length(e.epoch) DESC, e.epoch DESC LIMIT 1").Scan(&c.Epoch, &c.Seq)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return c, err
}

// scan is one page on its way.
type scan struct {
	*matcher
	tx       *sql.Tx // one snapshot of the file
	deadline time.Time
	page     Page
	bytes    int
	done     proto.Cursor // everything up to here has been looked at
}

// errPage ends a scan: the page is full, or it took long enough.
var errPage = errors.New("the page is complete")

func (s *Store) query(ctx context.Context, m *matcher) (Page, error) {
	if m.Allowed != nil && len(m.Allowed) == 0 {
		return Page{Rows: []Row{}}, nil
	}
	tx, err := s.readers.BeginTx(ctx, nil)
	if err != nil {
		return Page{}, err
	}
	defer func() { _ = tx.Rollback() }() // it only read
	sc := &scan{matcher: m, tx: tx, deadline: time.Now().Add(s.pageTime), page: Page{Rows: []Row{}}}
	err = sc.run(ctx)
	if errors.Is(err, errPage) {
		sc.page.Next = sc.done.String()
		return sc.page, nil
	}
	return sc.page, err
}

func (sc *scan) run(ctx context.Context) error {
	epochs, err := sc.epochs(ctx)
	if err != nil {
		return err
	}
	for _, e := range epochs {
		within := everything
		if sc.cursor.Epoch != "" {
			switch c := compareEpochs(e.epoch, sc.cursor.Epoch); {
			case c == 0 && sc.Asc:
				within.first = int64(sc.cursor.Seq) + 1
			case c == 0:
				within.last = int64(sc.cursor.Seq) - 1
			case c < 0 == sc.Asc: // before the cursor
				continue
			}
		}
		if within.first < 0 || within.last < within.first {
			continue
		}
		if err := sc.epoch(ctx, e, within); err != nil {
			return err
		}
	}
	return nil
}

func (sc *scan) epochs(ctx context.Context) ([]numbered, error) {
	rows, err := sc.tx.QueryContext(ctx, "SELECT epoch, number FROM epochs ORDER BY length(epoch), epoch")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []numbered
	for rows.Next() {
		var e numbered
		if err := rows.Scan(&e.epoch, &e.number); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	if !sc.Asc {
		slices.Reverse(out)
	}
	return out, rows.Err()
}

// epoch looks through one epoch, with the help of the index where it can say
// something about the filter.
func (sc *scan) epoch(ctx context.Context, e numbered, within span) error {
	within, err := sc.timed(ctx, e.epoch, within)
	if err != nil {
		return err
	}
	if sc.match == "" || within.first > maxSeq {
		return sc.read(ctx, e.epoch, within)
	}
	err = sc.search(ctx, e, within)
	if resultCode(err)&0xff == sqliteCorrupt { // a damaged index costs time, never rows
		return sc.read(ctx, e.epoch, sc.remaining(e.epoch, within))
	}
	return err
}

// timed narrows a range to the sequences between the rows that the limits of
// time let through. Sequences and timestamps need not have the same order.
func (sc *scan) timed(ctx context.Context, epoch string, within span) (span, error) {
	if sc.after == "" && sc.before == "" {
		return within, nil
	}
	times, ok := sc.times[epoch]
	if !ok {
		before := sc.before
		if before == "" {
			before = afterAll
		}
		var first, last sql.NullInt64
		if err := sc.tx.QueryRowContext(ctx,
			"SELECT min(seq), max(seq) FROM messages INDEXED BY messages_timestamp WHERE timestamp >= ? AND "+
				"timestamp < ? AND epoch = ?",
			sc.after, before, epoch).Scan(&first, &last); err != nil {
			return span{}, err
		}
		if times = (span{first.Int64, last.Int64}); !first.Valid {
			times = span{1, 0} // none
		}
		if sc.times == nil {
			sc.times = map[string]span{}
		}
		sc.times[epoch] = times
	}
	return span{max(within.first, times.first), min(within.last, times.last)}, nil
}

// searchChunk is how many hits are asked of the index at once.
const searchChunk = 256

// search looks at the rows that the index names.
func (sc *scan) search(ctx context.Context, e numbered, within span) error {
	order := " ORDER BY rowid DESC LIMIT ?"
	if sc.Asc {
		order = " ORDER BY rowid LIMIT ?"
	}
	for within.first <= within.last {
		seqs, err := sc.hits(ctx, "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?"+order,
			sc.match, rowid(e.number, within.first), rowid(e.number, min(within.last, maxSeq)), searchChunk)
		if err != nil {
			return err
		}
		for _, seq := range seqs {
			if err := sc.read(ctx, e.epoch, span{seq, seq}); err != nil {
				return err
			}
		}
		if len(seqs) < searchChunk {
			break
		}
		if last := seqs[len(seqs)-1]; sc.Asc {
			within.first = last + 1
		} else {
			within.last = last - 1
		}
	}
	return sc.finish(e.epoch, within)
}

func (sc *scan) hits(ctx context.Context, query string, args ...any) ([]int64, error) {
	rows, err := sc.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var seqs []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		seqs = append(seqs, id&maxSeq)
	}
	return seqs, rows.Err()
}

// remaining is the part of a range that this search has not read yet.
func (sc *scan) remaining(epoch string, within span) span {
	if sc.done.Epoch == epoch && sc.Asc {
		within.first = max(within.first, int64(sc.done.Seq)+1)
	} else if sc.done.Epoch == epoch {
		within.last = min(within.last, int64(sc.done.Seq)-1)
	}
	return within
}

// finish notes that the whole range was read. errPage ends a page whose time is over.
func (sc *scan) finish(epoch string, part span) error {
	if part.first > part.last || part.last == math.MaxInt64 && sc.Asc {
		return nil
	}
	sc.done = proto.Cursor{Epoch: epoch, Seq: uint64(part.first)}
	if sc.Asc {
		sc.done.Seq = uint64(part.last)
	}
	if time.Now().After(sc.deadline) {
		return errPage
	}
	return nil
}

// read looks at every row of a range.
func (sc *scan) read(ctx context.Context, epoch string, part span) error {
	if part.first > part.last {
		return nil
	}
	order := " ORDER BY seq DESC"
	if sc.Asc {
		order = " ORDER BY seq"
	}
	rows, err := sc.tx.QueryContext(ctx,
		"SELECT "+readColumns+" FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ?"+order, epoch, part.first,
		part.last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := 1; rows.Next(); n++ {
		var r Row
		if err := r.scan(rows); err != nil {
			return err
		}
		if sc.matches(&r) {
			if len(sc.page.Rows) == sc.Limit || sc.bytes >= sc.Bytes {
				return errPage // and there is one more
			}
			sc.page.Rows = append(sc.page.Rows, r)
			sc.bytes += len(r.Message)
		}
		sc.done = r.key()
		if n%64 == 0 && time.Now().After(sc.deadline) {
			return errPage
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return sc.finish(epoch, part)
}
