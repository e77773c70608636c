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
// searches are slower, never short. Only one call may run at a time.
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
	rows           int64
	offsets        float64 // the sum of seq-first: with rows, it gives away any change
	oldest, newest string
	blocks         []block
}

// seal makes one segment at the beginning of the gap; one with last 0 means
// that there was nothing to make. wait leaves alone what is not a whole one.
func (s *Store) seal(ctx context.Context, epoch string, gap span, wait bool) (span, error) {
	seg, full, err := s.build(ctx, epoch, gap)
	if err != nil || seg.rows == 0 || wait && !full {
		return span{}, err
	}
	err = s.put(ctx, epoch, seg)
	if errors.Is(err, errMoved) {
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
		if rows != seg.rows || offsets != seg.offsets {
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

// build reads the rows of a segment. full says that it is a whole one: the
// gap holds more than it takes.
func (s *Store) build(ctx context.Context, epoch string, gap span) (seg sealed, full bool, err error) {
	rows, err := s.readers.QueryContext(ctx, "SELECT "+readColumns+" FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
		epoch, gap.first, gap.last, segmentRows)
	if err != nil {
		return sealed{}, false, err
	}
	defer rows.Close()
	seg.span = gap
	b := &s.builder
	b.reset(uint64(gap.first))
	last, size := int64(0), 0
	for !full && rows.Next() {
		var r Row
		if err := r.scan(rows); err != nil {
			return sealed{}, false, err
		}
		b.add(&r)
		if seg.rows == 0 || r.Timestamp < seg.oldest {
			seg.oldest = r.Timestamp
		}
		if r.Timestamp > seg.newest {
			seg.newest = r.Timestamp
		}
		last = int64(r.Seq)
		size += len(r.Message)
		seg.rows++
		seg.offsets += float64(last - gap.first)
		full = seg.rows == segmentRows || size >= segmentBytes
	}
	if err := rows.Err(); err != nil {
		return sealed{}, false, err
	}
	if full || gap.last == math.MaxInt64 {
		seg.last = last
	}
	seg.blocks = b.blocks()
	return seg, full, nil
}
