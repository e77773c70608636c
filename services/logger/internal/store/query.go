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
	// Next may be short, even empty: the search took long and goes on there.
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
// Limit does not count. Rows stored after the call may be left out.
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
	err := s.readers.QueryRowContext(ctx, "SELECT e.epoch, coalesce((SELECT max(seq) FROM messages m WHERE m.epoch = e.epoch), 0) "+
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
	for _, epoch := range epochs {
		within := span{0, math.MaxInt64}
		if sc.cursor.Epoch != "" {
			switch c := compareEpochs(epoch, sc.cursor.Epoch); {
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
		if err := sc.epoch(ctx, epoch, within); err != nil {
			return err
		}
	}
	return nil
}

func (sc *scan) epochs(ctx context.Context) ([]string, error) {
	rows, err := sc.tx.QueryContext(ctx, "SELECT epoch FROM epochs ORDER BY length(epoch), epoch")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var e string
		if err := rows.Scan(&e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	if !sc.Asc {
		slices.Reverse(out)
	}
	return out, rows.Err()
}

// segment is a row of the table segments.
type segment struct {
	span
	n              int64
	oldest, newest string
}

// epoch walks segments and the gaps between them in the order of the filter.
func (sc *scan) epoch(ctx context.Context, epoch string, within span) error {
	pos := within.first
	if !sc.Asc {
		pos = within.last
	}
	for {
		segments, err := sc.segments(ctx, epoch, pos)
		if err != nil {
			return err
		}
		for _, seg := range segments {
			gap := span{pos, min(seg.first-1, within.last)}
			if !sc.Asc {
				gap = span{max(seg.last+1, within.first), pos}
			}
			if err := sc.read(ctx, epoch, gap); err != nil {
				return err
			}
			if err := sc.segment(ctx, epoch, seg, within); err != nil {
				return err
			}
			if sc.Asc {
				pos = max(pos, seg.last+1)
			} else {
				pos = min(pos, seg.first-1)
			}
			if pos < within.first || pos > within.last {
				return nil
			}
		}
		if len(segments) < segmentChunk {
			break
		}
	}
	rest := span{pos, within.last}
	if !sc.Asc {
		rest = span{within.first, pos}
	}
	return sc.read(ctx, epoch, rest)
}

// segmentChunk is how many segments are looked up at once.
const segmentChunk = 64

// segments returns the next ones at or after pos, in the order of the filter.
func (sc *scan) segments(ctx context.Context, epoch string, pos int64) ([]segment, error) {
	query := "SELECT segment, first, last, oldest, newest FROM segments WHERE epoch = ?1 AND first <= ?2 ORDER BY first DESC LIMIT ?3"
	if sc.Asc {
		query = "SELECT segment, first, last, oldest, newest FROM segments WHERE epoch = ?1 AND last >= ?2 AND first >= " +
			"coalesce((SELECT max(first) FROM segments WHERE epoch = ?1 AND first <= ?2), 0) ORDER BY first LIMIT ?3"
	}
	rows, err := sc.tx.QueryContext(ctx, query, epoch, pos, segmentChunk)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []segment
	for rows.Next() {
		var g segment
		if err := rows.Scan(&g.n, &g.first, &g.last, &g.oldest, &g.newest); err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, rows.Err()
}

// segment looks for rows with the help of the index.
func (sc *scan) segment(ctx context.Context, epoch string, seg segment, within span) error {
	part := span{max(seg.first, within.first), min(seg.last, within.last)}
	if part.first > part.last || sc.skips(seg.oldest, seg.newest) {
		return sc.past(epoch, part)
	}
	if len(sc.clauses) == 0 {
		return sc.read(ctx, epoch, part)
	}
	seqs, err := sc.candidates(ctx, seg)
	if errors.Is(err, errSegment) {
		return sc.read(ctx, epoch, part) // a damaged index costs time, never rows
	}
	if err != nil {
		return err
	}
	seqs = slices.DeleteFunc(seqs, func(seq uint64) bool { return int64(seq) < part.first || int64(seq) > part.last })
	if len(seqs) > fewRows {
		if err := sc.read(ctx, epoch, span{int64(seqs[0]), int64(seqs[len(seqs)-1])}); err != nil {
			return err
		}
		return sc.past(epoch, part)
	}
	if !sc.Asc {
		slices.Reverse(seqs)
	}
	for _, seq := range seqs {
		if err := sc.read(ctx, epoch, span{int64(seq), int64(seq)}); err != nil {
			return err
		}
	}
	return sc.past(epoch, part)
}

// fewRows of a segment are read one by one, more in one go with what lies
// between them: a look-up costs as much as reading some dozen rows in order.
const fewRows = 128

// past notes that a range is done with, and ends a page that took long.
func (sc *scan) past(epoch string, part span) error {
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
	rows, err := sc.tx.QueryContext(ctx, "SELECT "+readColumns+" FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ?"+order, epoch, part.first, part.last)
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
			if len(sc.page.Rows) == sc.Limit || sc.bytes >= pageBytes {
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
	return sc.past(epoch, part)
}

// candidates are the sequences of a segment that have a term of each clause,
// in ascending order. The rows decide.
func (sc *scan) candidates(ctx context.Context, seg segment) ([]uint64, error) {
	var out []uint64
	for i, ranges := range sc.clauses {
		seqs, err := sc.anyOf(ctx, seg, ranges)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			out = seqs
		} else {
			out = slices.DeleteFunc(out, func(seq uint64) bool {
				_, ok := slices.BinarySearch(seqs, seq)
				return !ok
			})
		}
		if len(out) == 0 {
			return nil, nil
		}
	}
	return out, nil
}

func (sc *scan) anyOf(ctx context.Context, seg segment, ranges []termRange) ([]uint64, error) {
	var out []uint64
	for _, r := range ranges {
		var err error
		if out, err = sc.lookup(ctx, seg, r, out); err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// lookup appends the postings of the terms in the range: those of the last
// block that begins at or before lo, and of those that begin before hi.
func (sc *scan) lookup(ctx context.Context, seg segment, want termRange, out []uint64) ([]uint64, error) {
	rows, err := sc.tx.QueryContext(ctx, "SELECT entries FROM terms WHERE segment = ?1 AND first < ?3 AND first >= "+
		"coalesce((SELECT max(first) FROM terms WHERE segment = ?1 AND first <= ?2), x'') ORDER BY first", seg.n, want.lo, want.hi)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var entries sql.RawBytes
		if err := rows.Scan(&entries); err != nil {
			return nil, err
		}
		err := readBlock(entries, func(term, seqs []byte) error {
			if string(term) < string(want.lo) || string(term) >= string(want.hi) || want.match != nil && !want.match(term) {
				return nil
			}
			var err error
			out, err = appendSeqs(out, uint64(seg.first), uint64(seg.last), seqs)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, rows.Err()
}
