package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/herald-push/herald/proto"
)

// insertRows is how many rows one INSERT inserts: calls into SQLite are what
// costs, and beyond some dozens there is nothing more to save.
const insertRows = 50

var (
	insertMany, insertOne = insertSQL(insertRows), insertSQL(1)
	indexMany, indexOne   = indexSQL(insertRows), indexSQL(1)
)

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
		fmt.Fprintf(&b, "(?%d, ?%d, ?%d, ?%d, ?%d, ?1 || '-' || ?%d, ?1, ?%d, ?%d)", p, p+1, p+2, p+3, p+4, p+5, p+5,
			p+6)
	}
	b.WriteString(" ON CONFLICT (epoch, seq) DO NOTHING")
	return b.String()
}

func indexSQL(n int) string {
	return "INSERT INTO words (rowid, terms) VALUES (?, ?)" + strings.Repeat(", (?, ?)", n-1)
}

// ErrSequence: a row has a sequence that no stream gives out, so the index has
// no place for it.
var ErrSequence = errors.New("the sequence is out of range")

// Append stores the rows, and what is searched of them, in one transaction and
// returns how many were new. After nil they are on the disk. The error wraps
// ErrFull when there was no room; then, and after any error, none of them is
// in the file.
func (s *Store) Append(ctx context.Context, rows []Row) (inserted int, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	write := func() error {
		return s.write(ctx, func(tx *sql.Tx) (err error) {
			a := appender{tx: tx, doc: &s.doc}
			defer a.close()
			inserted, err = a.insert(rows)
			return err
		})
	}
	err = write()
	if code := resultCode(err); code == sqliteCorruptIndex || code == sqliteOverlap {
		if err = s.rebuildIndex(ctx); err == nil {
			err = write()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("append %d rows to the log: %w", len(rows), err)
	}
	return inserted, nil
}

// appender is one Append under way.
type appender struct {
	tx    *sql.Tx
	doc   *document
	stmts []*sql.Stmt
	args  []any

	rowsMany, rowsOne, termsMany, termsOne *sql.Stmt
}

func (a *appender) prepare() error {
	for _, p := range []struct {
		stmt **sql.Stmt
		sql  string
	}{{&a.rowsMany, insertMany}, {&a.rowsOne, insertOne}, {&a.termsMany, indexMany}, {&a.termsOne, indexOne}} {
		stmt, err := a.tx.Prepare(p.sql)
		if err != nil {
			return err
		}
		*p.stmt = stmt
		a.stmts = append(a.stmts, stmt)
	}
	return nil
}

func (a *appender) close() {
	for _, stmt := range a.stmts {
		_ = stmt.Close() // its transaction is over
	}
}

func (a *appender) insert(rows []Row) (inserted int, err error) {
	if err := a.prepare(); err != nil {
		return 0, err
	}
	for len(rows) > 0 {
		run := sameEpoch(rows)
		number, err := a.number(&run[0])
		if err != nil {
			return 0, err
		}
		rows = rows[len(run):]
		for len(run) > 0 {
			n := 1
			if len(run) >= insertRows {
				fresh, err := a.fresh(run[:insertRows])
				if err != nil {
					return 0, err
				}
				if fresh {
					n = insertRows
				}
			}
			added, err := a.some(number, run[:n])
			if err != nil {
				return 0, err
			}
			inserted += added
			run = run[n:]
		}
	}
	return inserted, nil
}

// sameEpoch is the longest beginning of rows with one epoch.
func sameEpoch(rows []Row) []Row {
	for i := range rows {
		if rows[i].Epoch != rows[0].Epoch {
			return rows[:i]
		}
	}
	return rows
}

// number makes the epoch of a row known and returns its number.
func (a *appender) number(r *Row) (number int64, err error) {
	if _, err := a.tx.Exec(insertEpoch, r.Epoch, int64(proto.PackOf(r.Seq)),
		max(0, int64(proto.PackOf(r.Seq))-1)); err != nil {
		return 0, err
	}
	err = a.tx.QueryRow("SELECT number FROM epochs WHERE epoch = ?", r.Epoch).Scan(&number)
	if err == nil && number > maxEpochs {
		err = fmt.Errorf("the log has rows of %d streams, and has no room for another; start with a new file",
			maxEpochs)
	}
	return number, err
}

// fresh reports whether rows, of one epoch, are in ascending order and none of
// them can be in the file, so that they may be inserted and indexed at once.
func (a *appender) fresh(rows []Row) (bool, error) {
	for i := 1; i < len(rows); i++ {
		if rows[i].Seq <= rows[i-1].Seq {
			return false, nil
		}
	}
	var there int
	err := a.tx.QueryRow("SELECT EXISTS (SELECT 1 FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ?)",
		rows[0].Epoch, int64(rows[0].Seq), int64(rows[len(rows)-1].Seq)).Scan(&there)
	return there == 0, err
}

// some inserts one row, or insertRows of them that are fresh, and indexes what
// was new.
func (a *appender) some(number int64, rows []Row) (added int, err error) {
	insert, index := a.rowsOne, a.termsOne
	if len(rows) == insertRows {
		insert, index = a.rowsMany, a.termsMany
	}
	a.args = append(a.args[:0], rows[0].Epoch)
	for i := range rows {
		if rows[i].Seq > maxSeq {
			return 0, fmt.Errorf("%w: %s", ErrSequence, rows[i].ID())
		}
		a.args = rows[i].appendArgs(a.args)
	}
	res, err := insert.Exec(a.args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return 0, err
	}
	a.args = a.args[:0]
	for i := range rows {
		a.args = append(a.args, rowid(number, int64(rows[i].Seq)), a.doc.of(&rows[i]))
	}
	if _, err := index.Exec(a.args...); err != nil {
		return 0, err
	}
	return int(n), nil
}

// LastSeq is the highest sequence of the epoch that is stored; 0 if none is.
func (s *Store) LastSeq(ctx context.Context, epoch string) (uint64, error) {
	var seq sql.NullInt64
	if err := s.readers.QueryRowContext(ctx, "SELECT max(seq) FROM messages WHERE epoch = ?",
		epoch).Scan(&seq); err != nil {
		return 0, fmt.Errorf("read the last sequence of the log: %w", err)
	}
	return uint64(seq.Int64), nil
}
