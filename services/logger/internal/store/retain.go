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
func (s *Store) Retain(ctx context.Context, maxAge time.Duration, maxBytes int64, now time.Time) (deleted int,
	err error) {
	if err = s.checkpoint(ctx); err != nil {
		return 0, fmt.Errorf("retention of the log: %w", err)
	}
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

// chunk is rows that one transaction deletes: those of an epoch.
type chunk struct {
	epoch string
	seqs  []int64
}

// retainAge deletes in the order of time, which need not be that of the stream:
// clocks differ.
func (s *Store) retainAge(ctx context.Context, cutoff string) (deleted int, err error) {
	for {
		chunks, err := s.oldRows(ctx, cutoff)
		if err != nil || len(chunks) == 0 {
			return deleted, err
		}
		for _, c := range chunks {
			n, err := s.remove(ctx, c)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
	}
}

// oldRows is the next rows to delete for their age.
func (s *Store) oldRows(ctx context.Context, cutoff string) ([]chunk, error) {
	rows, err := s.readers.QueryContext(ctx,
		"SELECT epoch, seq FROM (SELECT epoch, seq FROM messages WHERE timestamp < ? ORDER BY timestamp LIMIT ?) "+
			"ORDER BY epoch, seq",
		cutoff, retainRows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []chunk
	for rows.Next() {
		var epoch string
		var seq int64
		if err := rows.Scan(&epoch, &seq); err != nil {
			return nil, err
		}
		if n := len(out); n == 0 || out[n-1].epoch != epoch {
			out = append(out, chunk{epoch: epoch})
		}
		c := &out[len(out)-1]
		c.seqs = append(c.seqs, seq)
	}
	return out, rows.Err()
}

// retainBytes deletes from the beginning of the oldest epoch on.
func (s *Store) retainBytes(ctx context.Context, maxBytes int64) (deleted int, err error) {
	// What cannot be written back from the WAL is on the disk too. Deleting rows
	// does not free it, so it never uses more than half of what rows may have.
	maxBytes -= min(s.stuck.Load(), maxBytes/2)
	for {
		used, err := s.usedBytes(ctx)
		if err != nil || used <= maxBytes {
			return deleted, err
		}
		c, err := s.firstRows(ctx, used-maxBytes)
		if err != nil || len(c.seqs) == 0 {
			return deleted, err
		}
		n, err := s.remove(ctx, c)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
}

// usedBytes is what the file holds, without pages that are free.
func (s *Store) usedBytes(ctx context.Context) (int64, error) {
	var n int64
	err := s.readers.QueryRowContext(ctx,
		"SELECT (page_count - freelist_count) * page_size "+
			"FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&n)
	return n, err
}

// rowBytes is what a row needs besides its message: the other columns, and its
// places in the keys. The index of its words comes to about another message.
const rowBytes = 200

// firstRows is the next rows from the beginning: enough to free this many
// bytes, but no more than one transaction should delete.
func (s *Store) firstRows(ctx context.Context, bytes int64) (chunk, error) {
	epochs, err := s.Epochs(ctx)
	if err != nil {
		return chunk{}, err
	}
	for _, e := range epochs {
		c, err := s.firstOf(ctx, e.Epoch, bytes)
		if err != nil || len(c.seqs) > 0 {
			return c, err
		}
	}
	return chunk{}, nil
}

func (s *Store) firstOf(ctx context.Context, epoch string, bytes int64) (chunk, error) {
	c := chunk{epoch: epoch}
	rows, err := s.readers.QueryContext(ctx,
		"SELECT seq, octet_length(message) FROM messages WHERE epoch = ? ORDER BY seq LIMIT ?", epoch, retainRows)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for bytes > 0 && rows.Next() {
		var seq, n int64
		if err := rows.Scan(&seq, &n); err != nil {
			return c, err
		}
		c.seqs = append(c.seqs, seq)
		bytes -= n + rowBytes
	}
	return c, rows.Err()
}

// remove deletes rows, and keeps the account and the index in step, in one
// transaction.
func (s *Store) remove(ctx context.Context, c chunk) (deleted int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		deleted = 0
		// What is deleted can no longer be counted.
		if _, err := account(tx, c.epoch, int64(proto.PackOf(uint64(c.seqs[len(c.seqs)-1])))); err != nil {
			return err
		}
		var number int64
		if err := tx.QueryRow("SELECT number FROM epochs WHERE epoch = ?", c.epoch).Scan(&number); err != nil {
			return err
		}
		row, err := tx.Prepare("DELETE FROM messages WHERE epoch = ? AND seq = ?")
		if err != nil {
			return err
		}
		defer row.Close()
		terms, err := tx.Prepare("DELETE FROM words WHERE rowid = ?")
		if err != nil {
			return err
		}
		defer terms.Close()
		for _, seq := range c.seqs {
			res, err := row.Exec(c.epoch, seq)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			deleted += int(n)
			if _, err := terms.Exec(rowid(number, seq)); err != nil {
				return err
			}
		}
		return nil
	})
	return deleted, err
}

// vacuum gives free pages back to the file system, but for some spare ones.
func (s *Store) vacuum(ctx context.Context) error {
	shrunk := false
	for before := int64(math.MaxInt64); ; {
		var free, pages int64
		if err := s.readers.QueryRowContext(ctx,
			"SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count").Scan(&free,
			&pages); err != nil {
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
	return s.checkpoint(ctx) // the file itself shrinks when the WAL is written back to it
}

// checkpoint writes the WAL back into the file, as far as that waits for
// nobody: what a reader still needs is written back later.
func (s *Store) checkpoint(ctx context.Context) error {
	var busy, frames, done, page int64
	if err := s.writer.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &done); err != nil {
		return err
	}
	if err := s.writer.QueryRowContext(ctx, "PRAGMA page_size").Scan(&page); err != nil {
		return err
	}
	s.stuck.Store(max(0, frames-done) * page)
	return nil
}

// Stuck is how many bytes of the write-ahead log could not be written back into
// the file when Retain last tried: somebody reads the file in one transaction,
// such as a sqlite3 shell in the middle of one. The WAL grows meanwhile.
func (s *Store) Stuck() int64 { return s.stuck.Load() }

// vacuumSome frees one page for each row that the pragma returns, so it must
// be read to the end.
func (s *Store) vacuumSome(ctx context.Context, pages int64) error {
	rows, err := s.writer.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", pages))
	if err != nil {
		return markFull(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return markFull(rows.Err())
}
