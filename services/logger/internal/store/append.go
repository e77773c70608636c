package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// insertRows is how many rows one INSERT takes: calls into SQLite are what
// costs, and beyond some dozens there is nothing more to save.
const insertRows = 50

var insertMany, insertOne = insertSQL(insertRows), insertSQL(1)

// rowArgs is how many parameters a row has of its own. Its epoch is the first
// parameter of the statement, and its id SQLite puts together: each parameter
// costs a call.
const rowArgs = 7

// insertSQL names the one conflict that is expected, a redelivery: INSERT OR
// IGNORE would also swallow faults of other kinds, and with them rows.
func insertSQL(n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO messages (" + columns + ") VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		p := 2 + i*rowArgs
		fmt.Fprintf(&b, "(?%d, ?%d, ?%d, ?%d, ?%d, ?1 || '-' || ?%d, ?1, ?%d, ?%d)", p, p+1, p+2, p+3, p+4, p+5, p+5, p+6)
	}
	b.WriteString(" ON CONFLICT (epoch, seq) DO NOTHING")
	return b.String()
}

// Append stores the rows in one transaction and returns how many were new.
// After nil they are on the disk. The error wraps ErrFull when there was no
// room; then, and after any error, none of them is in the file. The rows must
// not be changed afterwards: they are kept until they are indexed.
func (s *Store) Append(ctx context.Context, rows []Row) (inserted int, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		sealed, err := sealedThrough(tx, rows)
		if err != nil {
			return err
		}
		inserted, err = insert(tx, rows, sealed)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("append %d rows to the log: %w", len(rows), err)
	}
	s.tail.appended(rows, inserted == len(rows))
	return inserted, nil
}

// sealedThrough makes the epochs of the rows known and returns up to which
// sequence each of them is in the search index.
func sealedThrough(tx *sql.Tx, rows []Row) (map[string]int64, error) {
	sealed := map[string]int64{}
	for i := range rows {
		epoch := rows[i].Epoch
		if _, ok := sealed[epoch]; ok {
			continue
		}
		if _, err := tx.Exec("INSERT INTO epochs VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING", epoch, int64(rows[i].Seq), int64(rows[i].Seq)-1); err != nil {
			return nil, err
		}
		var last int64
		err := tx.QueryRow("SELECT last FROM segments WHERE epoch = ? ORDER BY first DESC LIMIT 1", epoch).Scan(&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		sealed[epoch] = last
	}
	return sealed, nil
}

func insert(tx *sql.Tx, rows []Row, sealed map[string]int64) (inserted int, err error) {
	many, err := tx.Prepare(insertMany)
	if err != nil {
		return 0, err
	}
	defer many.Close()
	one, err := tx.Prepare(insertOne)
	if err != nil {
		return 0, err
	}
	defer one.Close()

	args := make([]any, 0, 1+insertRows*rowArgs)
	for len(rows) > 0 {
		n, stmt := 1, one
		late := int64(rows[0].Seq) <= sealed[rows[0].Epoch]
		if !late && len(rows) >= insertRows && alike(rows[:insertRows], sealed) {
			n, stmt = insertRows, many
		}
		args = append(args[:0], rows[0].Epoch)
		for i := range rows[:n] {
			args = rows[i].appendArgs(args)
		}
		res, err := stmt.Exec(args...)
		if err != nil {
			return 0, err
		}
		added, err := res.RowsAffected()
		if err != nil {
			return 0, err
		}
		if late && added > 0 {
			if err := unseal(tx, rows[0].Epoch, int64(rows[0].Seq)); err != nil {
				return 0, err
			}
		}
		inserted += int(added)
		rows = rows[n:]
	}
	return inserted, nil
}

// alike reports whether the rows can be inserted at once: they have one epoch,
// and none comes after its segment of the index was made.
func alike(rows []Row, sealed map[string]int64) bool {
	epoch := rows[0].Epoch
	last := sealed[epoch]
	for i := range rows {
		if rows[i].Epoch != epoch || int64(rows[i].Seq) <= last {
			return false
		}
	}
	return true
}

// unseal drops the segment that covers a row which came after it was made: a
// redelivery after a crash. Index makes it anew.
func unseal(tx *sql.Tx, epoch string, seq int64) error {
	if _, err := tx.Exec("DELETE FROM terms WHERE segment IN (SELECT segment FROM segments WHERE epoch = ? AND first <= ? AND last >= ?)", epoch, seq, seq); err != nil {
		return err
	}
	_, err := tx.Exec("DELETE FROM segments WHERE epoch = ? AND first <= ? AND last >= ?", epoch, seq, seq)
	return err
}

// LastSeq is the highest sequence of the epoch that is stored; 0 if none is.
func (s *Store) LastSeq(ctx context.Context, epoch string) (uint64, error) {
	var seq sql.NullInt64
	if err := s.readers.QueryRowContext(ctx, "SELECT max(seq) FROM messages WHERE epoch = ?", epoch).Scan(&seq); err != nil {
		return 0, fmt.Errorf("read the last sequence of the log: %w", err)
	}
	return uint64(seq.Int64), nil
}
