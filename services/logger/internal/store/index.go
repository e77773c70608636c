package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
)

// A segment is made of this many rows, or of this much text. Searches read
// the rows after the last segment one by one: these limits bound that time,
// and the memory that making a segment takes.
const (
	segmentRows  = 4096
	segmentBytes = 2 << 20
)

// Index brings the search index up to the rows, as far as there are full
// segments, and returns how many it made. It takes the writer for some
// milliseconds a segment, so Append may run beside it; when it falls behind,
// searches are slower, never short. Only one call may run at a time. It is to
// be called now and then, and when IndexDue says so.
func (s *Store) Index(ctx context.Context) (segments int, err error) {
	epochs, err := s.Epochs(ctx)
	if err != nil {
		return 0, err
	}
	for i, e := range epochs {
		n, err := s.indexEpoch(ctx, e.Epoch, i == len(epochs)-1)
		segments += n
		if err != nil {
			return segments, fmt.Errorf("index epoch %s of the log: %w", e.Epoch, err)
		}
	}
	return segments, nil
}

// IndexDue tells when there is a whole segment that Index can make without
// reading its rows back. It is never closed.
func (s *Store) IndexDue() <-chan struct{} { return s.tail.due }

// indexEpoch fills first the gaps between segments, where late rows came,
// then goes on after the last one. The newest epoch is the one that grows:
// there the rest waits until it is a whole segment.
func (s *Store) indexEpoch(ctx context.Context, epoch string, grows bool) (segments int, err error) {
	gaps, end, err := s.gaps(ctx, epoch)
	if err != nil {
		return 0, err
	}
	for _, g := range append(gaps, span{end, math.MaxInt64}) {
		for {
			tail := g.last == math.MaxInt64
			made, err := s.seal(ctx, epoch, g, tail && grows)
			if err != nil {
				return segments, err
			}
			if made.last == 0 {
				break
			}
			segments++
			if made.last == g.last {
				break
			}
			g.first = made.last + 1
		}
	}
	return segments, nil
}

// span is a range of sequences of one epoch, both ends included.
type span struct{ first, last int64 }

// gaps returns what lies between the segments, and where the rest begins.
func (s *Store) gaps(ctx context.Context, epoch string) (gaps []span, end int64, err error) {
	rows, err := s.readers.QueryContext(ctx, "SELECT first, last FROM segments WHERE epoch = ? ORDER BY first", epoch)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var seg span
		if err := rows.Scan(&seg.first, &seg.last); err != nil {
			return nil, 0, err
		}
		if seg.first > end {
			gaps = append(gaps, span{end, seg.first - 1})
		}
		end = seg.last + 1
	}
	return gaps, end, rows.Err()
}

// sealed is what a segment is made of, and what must still be so when it is
// written.
type sealed struct {
	span
	size           amount
	offsets        float64 // the sum of seq-first: with rows, it gives away any change
	oldest, newest string
	blocks         []block
}

// seal makes one segment at the beginning of the gap; one with last 0 means
// that there was nothing to make. wait leaves alone what is not a whole one.
func (s *Store) seal(ctx context.Context, epoch string, gap span, wait bool) (span, error) {
	if wait && s.tail.isTooShort(epoch, gap.first) {
		return span{}, nil
	}
	seen := s.tail.appendedSoFar()
	seg, whole, err := s.build(ctx, epoch, gap)
	if err != nil || seg.size.rows == 0 {
		return span{}, err
	}
	if wait && !whole {
		s.tail.tooShort(epoch, gap.first, seg.size, seen)
		return span{}, nil
	}
	err = s.put(ctx, epoch, seg)
	if errors.Is(err, errMoved) {
		s.tail.moved()
		return span{}, nil
	}
	return seg.span, err
}

// put writes a segment, unless its rows are not those it was made of: errMoved.
func (s *Store) put(ctx context.Context, epoch string, seg sealed) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		var rows int64
		var offsets float64
		if err := tx.QueryRow("SELECT count(*), total(seq - ?) FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ?",
			seg.first, epoch, seg.first, seg.last).Scan(&rows, &offsets); err != nil {
			return err
		}
		if rows != int64(seg.size.rows) || offsets != seg.offsets {
			return errMoved
		}
		res, err := tx.Exec("INSERT INTO segments (epoch, first, last, oldest, newest) VALUES (?, ?, ?, ?, ?)",
			epoch, seg.first, seg.last, seg.oldest, seg.newest)
		if err != nil {
			return err
		}
		n, err := res.LastInsertId()
		if err != nil {
			return err
		}
		stmt, err := tx.Prepare("INSERT INTO terms (segment, first, entries) VALUES (?, ?, ?)")
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, b := range seg.blocks {
			if _, err := stmt.Exec(n, b.first, b.entries); err != nil {
				return err
			}
		}
		return nil
	})
}

// errMoved: a late row or retention changed the rows while their segment was
// made. The next Index makes it.
var errMoved = errors.New("the rows changed")

// build makes a segment of the rows at the beginning of the gap. whole says
// that the gap may hold more than it takes.
func (s *Store) build(ctx context.Context, epoch string, gap span) (seg sealed, whole bool, err error) {
	s.builder.reset(uint64(gap.first))
	seg.span = gap
	if gap.last == math.MaxInt64 {
		whole, err = s.buildFromTail(ctx, epoch, &seg)
	}
	if err == nil && seg.size.rows == 0 {
		whole, err = s.buildFromFile(ctx, epoch, &seg)
	}
	if err != nil || seg.size.rows == 0 {
		return sealed{}, false, err
	}
	if whole || gap.last == math.MaxInt64 {
		seg.last = int64(s.builder.seqs[seg.size.rows-1])
	}
	seg.blocks = s.builder.blocks()
	return seg, whole, nil
}

func (s *Store) buildFromTail(ctx context.Context, epoch string, seg *sealed) (whole bool, err error) {
	var first int64
	err = s.readers.QueryRowContext(ctx, "SELECT seq FROM messages WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT 1", epoch, seg.first).Scan(&first)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	batches, whole := s.tail.from(epoch, first)
	for _, b := range batches {
		for i := range b {
			seg.add(&s.builder, &b[i])
		}
	}
	return whole, nil
}

func (s *Store) buildFromFile(ctx context.Context, epoch string, seg *sealed) (whole bool, err error) {
	rows, err := s.readers.QueryContext(ctx, "SELECT "+readColumns+" FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
		epoch, seg.first, seg.last, segmentRows)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for !seg.size.whole() && rows.Next() {
		var r Row
		if err := r.scan(rows); err != nil {
			return false, err
		}
		seg.add(&s.builder, &r)
	}
	return seg.size.whole(), rows.Err()
}

func (g *sealed) add(b *builder, r *Row) {
	b.add(r)
	if g.size.rows == 0 || r.Timestamp < g.oldest {
		g.oldest = r.Timestamp
	}
	g.newest = max(g.newest, r.Timestamp)
	g.size.add(r)
	g.offsets += float64(int64(r.Seq) - g.first)
}
