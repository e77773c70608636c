package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"github.com/herald-push/herald/proto"
)

const (
	// retainRows go in one transaction: some milliseconds for which Append waits.
	retainRows = 1000
	// vacuumPages are given back to the file system in one transaction.
	vacuumPages = 500
	// sparePages stay in the file for the rows that come next: a log at its
	// limit would else shrink and grow each minute.
	sparePages = 256
)

// Retain deletes rows older than maxAge, and then the oldest ones until what
// the file holds is at most maxBytes; 0 sets no limit. It works in small
// transactions, gives the room back to the file system, and returns how many
// rows it deleted, also beside an error.
func (s *Store) Retain(ctx context.Context, maxAge time.Duration, maxBytes int64, now time.Time) (deleted int, err error) {
	if maxAge > 0 {
		deleted, err = s.retainAge(ctx, proto.FormatTime(now.Add(-maxAge)))
	}
	if err == nil && maxBytes > 0 {
		var n int
		n, err = s.retainBytes(ctx, maxBytes)
		deleted += n
	}
	if err == nil {
		err = s.vacuum(ctx)
	}
	if err != nil {
		return deleted, fmt.Errorf("retention of the log: %w", err)
	}
	return deleted, nil
}

// stretch is a range of sequences that is in the index or is not.
type stretch struct {
	span
	segment int64 // 0: no segment covers it
	epoch   string
}

// retainAge goes through every segment that has something old, and through
// whatever is in none. It does not stop at the first young row: clocks differ.
func (s *Store) retainAge(ctx context.Context, cutoff string) (deleted int, err error) {
	stretches, err := s.stretches(ctx, cutoff)
	if err != nil {
		return 0, err
	}
	for _, st := range stretches {
		for {
			chunk, err := s.oldRows(ctx, st, cutoff)
			if err != nil {
				return deleted, err
			}
			if chunk.last == 0 {
				break
			}
			n, err := s.remove(ctx, st, chunk, "timestamp < ?", cutoff)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
	}
	return deleted, nil
}

func (s *Store) stretches(ctx context.Context, cutoff string) ([]stretch, error) {
	epochs, err := s.Epochs(ctx)
	if err != nil {
		return nil, err
	}
	var out []stretch
	for _, e := range epochs {
		gaps, end, err := s.gaps(ctx, e.Epoch)
		if err != nil {
			return nil, err
		}
		for _, g := range append(gaps, span{end, math.MaxInt64}) {
			out = append(out, stretch{span: g, epoch: e.Epoch})
		}
	}
	rows, err := s.readers.QueryContext(ctx, "SELECT segment, epoch, first, last FROM segments WHERE oldest < ? ORDER BY segment", cutoff)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var st stretch
		if err := rows.Scan(&st.segment, &st.epoch, &st.first, &st.last); err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, rows.Err()
}

// oldRows is where the next chunk of old rows lies; last is 0 if there is none.
func (s *Store) oldRows(ctx context.Context, st stretch, cutoff string) (span, error) {
	var first, last sql.NullInt64
	err := s.readers.QueryRowContext(ctx, "SELECT min(seq), max(seq) FROM (SELECT seq FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ? AND timestamp < ? ORDER BY seq LIMIT ?)",
		st.epoch, st.first, st.last, cutoff, retainRows).Scan(&first, &last)
	return span{first.Int64, last.Int64}, err
}

// retainBytes deletes from the beginning of the oldest epoch on.
func (s *Store) retainBytes(ctx context.Context, maxBytes int64) (deleted int, err error) {
	for {
		used, err := s.usedBytes(ctx)
		if err != nil || used <= maxBytes {
			return deleted, err
		}
		chunk, err := s.firstRows(ctx, used-maxBytes)
		if err != nil || chunk.last == 0 {
			return deleted, err
		}
		n, err := s.remove(ctx, stretch{span: span{0, chunk.last}, epoch: chunk.epoch}, chunk.span, "true")
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
}

// usedBytes is what the file holds, without pages that are free.
func (s *Store) usedBytes(ctx context.Context) (int64, error) {
	var n int64
	err := s.readers.QueryRowContext(ctx, "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&n)
	return n, err
}

// rowBytes is what a row takes besides its message: the other columns, its
// place in the primary key, and the index.
const rowBytes = 150

// firstRows is the next chunk from the beginning: enough to free this many
// bytes, but no more rows than one transaction should delete.
func (s *Store) firstRows(ctx context.Context, bytes int64) (stretch, error) {
	epochs, err := s.Epochs(ctx)
	if err != nil {
		return stretch{}, err
	}
	for _, e := range epochs {
		chunk, err := s.firstOf(ctx, e.Epoch, bytes)
		if err != nil || chunk.last != 0 {
			return stretch{span: chunk, epoch: e.Epoch}, err
		}
	}
	return stretch{}, nil
}

func (s *Store) firstOf(ctx context.Context, epoch string, bytes int64) (span, error) {
	rows, err := s.readers.QueryContext(ctx, "SELECT seq, octet_length(message) FROM messages WHERE epoch = ? ORDER BY seq LIMIT ?", epoch, retainRows)
	if err != nil {
		return span{}, err
	}
	defer rows.Close()
	var chunk span
	for bytes > 0 && rows.Next() {
		var seq, n int64
		if err := rows.Scan(&seq, &n); err != nil {
			return span{}, err
		}
		if chunk.last == 0 {
			chunk.first = seq
		}
		chunk.last = seq
		bytes -= n + rowBytes
	}
	return chunk, rows.Err()
}

// remove deletes the rows of a chunk that fit the condition, and keeps the
// account and the index in step, in one transaction.
func (s *Store) remove(ctx context.Context, st stretch, chunk span, condition string, args ...any) (deleted int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		// What is deleted can no longer be counted.
		if _, err := account(tx, st.epoch, chunk.last); err != nil {
			return err
		}
		res, err := tx.Exec("DELETE FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ? AND "+condition,
			append([]any{st.epoch, chunk.first, chunk.last}, args...)...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		deleted = int(n)
		return trimIndex(tx, st)
	})
	return deleted, err
}

// trimIndex drops the segments of a stretch that have no rows left, and
// brings the lowest timestamp of the others up to date.
func trimIndex(tx *sql.Tx, st stretch) error {
	const within = " WHERE epoch = ? AND first BETWEEN ? AND ?"
	const hasRows = "(SELECT 1 FROM messages m WHERE m.epoch = segments.epoch AND m.seq BETWEEN segments.first AND segments.last)"
	if _, err := tx.Exec("DELETE FROM terms WHERE segment IN (SELECT segment FROM segments"+within+" AND NOT EXISTS "+hasRows+")",
		st.epoch, st.first, st.last); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM segments"+within+" AND NOT EXISTS "+hasRows, st.epoch, st.first, st.last); err != nil {
		return err
	}
	if st.segment == 0 {
		return nil
	}
	_, err := tx.Exec("UPDATE segments SET oldest = (SELECT min(timestamp) FROM messages m WHERE m.epoch = segments.epoch AND m.seq BETWEEN segments.first AND segments.last) WHERE segment = ?", st.segment)
	return err
}

// vacuum gives free pages back to the file system, but for some spare ones.
func (s *Store) vacuum(ctx context.Context) error {
	shrunk := false
	for before := int64(math.MaxInt64); ; {
		var free, pages int64
		if err := s.readers.QueryRowContext(ctx, "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count").Scan(&free, &pages); err != nil {
			return err
		}
		if free <= sparePages+pages/16 || free >= before { // before: a file that was made without auto_vacuum
			break
		}
		before = free
		if err := s.vacuumSome(ctx, min(vacuumPages, free-sparePages-pages/16)); err != nil {
			return err
		}
		shrunk = true
	}
	if !shrunk {
		return nil
	}
	// The file itself shrinks when the WAL is written back to it. PASSIVE
	// waits for nobody: what a reader still needs is written back later.
	var busy, log, done int
	return s.writer.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &log, &done)
}

// vacuumSome frees one page for each row that the pragma returns, so it must
// be read to the end.
func (s *Store) vacuumSome(ctx context.Context, pages int64) error {
	rows, err := s.writer.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", pages))
	if err != nil {
		return fault(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fault(rows.Err())
}
