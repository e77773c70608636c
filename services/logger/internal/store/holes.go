package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/herald-push/herald/proto"
)

// Epoch says how complete the log of one life of the stream is.
type Epoch struct {
	Epoch string
	// First is the stream sequence, that of a pack, with which the log of this
	// epoch begins.
	First uint64
	// Accounted is the stream sequence up to which every pack is either logged or
	// counted as a hole.
	Accounted uint64
	// Holes is how many packs were stored in the stream but never seen.
	Holes uint64
}

// insertEpoch makes an epoch known, unless it is: its name, the first sequence,
// and up to which sequence it is accounted for.
const insertEpoch = "INSERT INTO epochs (epoch, first, accounted, holes, number) " +
	"SELECT ?, ?, ?, 0, coalesce(max(number), 0) + 1 FROM epochs WHERE true ON CONFLICT (epoch) DO NOTHING"

// Begin makes an epoch known, whose account begins with the sequence first.
// With an epoch that is of another stream than those that are named it closes
// the account: nothing more can come of it.
func (s *Store) Begin(ctx context.Context, epoch string, first uint64, stream ...string) (Epoch, error) {
	var e Epoch
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := closeOthers(tx, append([]string{epoch}, stream...)); err != nil {
			return err
		}
		first := max(1, first)
		if _, err := tx.Exec(insertEpoch, epoch, int64(first), int64(first)-1); err != nil {
			return err
		}
		return tx.QueryRow("SELECT epoch, first, accounted, holes FROM epochs WHERE epoch = ?", epoch).
			Scan(&e.Epoch, &e.First, &e.Accounted, &e.Holes)
	})
	if err != nil {
		return Epoch{}, fmt.Errorf("begin epoch %s in the log: %w", epoch, err)
	}
	return e, nil
}

func closeOthers(tx *sql.Tx, stream []string) error {
	rows, err := tx.Query("SELECT epoch, (SELECT max(seq) FROM messages m WHERE m.epoch = e.epoch) FROM epochs e")
	if err != nil {
		return err
	}
	defer rows.Close()
	last := map[string]int64{}
	for rows.Next() {
		var other string
		var seq sql.NullInt64
		if err := rows.Scan(&other, &seq); err != nil {
			return err
		}
		if !slices.Contains(stream, other) {
			last[other] = int64(proto.PackOf(uint64(seq.Int64)))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for other, seq := range last {
		if _, err := account(tx, other, seq); err != nil {
			return err
		}
	}
	return nil
}

// Account closes the account of the epoch up to a stream sequence: the caller
// knows that nothing up to there is still to come (it is acknowledged, or gone from
// the stream). It returns how many packs are not in the log. A repeat with the
// same or a lower sequence counts nothing.
func (s *Store) Account(ctx context.Context, epoch string, upTo uint64) (holes uint64, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		holes, err = account(tx, epoch, int64(min(upTo, math.MaxInt64)))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("account for epoch %s of the log: %w", epoch, err)
	}
	return holes, nil
}

// firstOfPack is true of the first message of each pack. A pack is logged whole or
// not at all.
var firstOfPack = fmt.Sprintf("seq & %d = 0", proto.EndOf(0))

// number is that of the first message of a pack, as SQLite has it.
func number(pack int64) int64 {
	return int64(min(proto.Number(min(uint64(pack), math.MaxInt64>>proto.PlaceBits), 0), math.MaxInt64))
}

func account(tx *sql.Tx, epoch string, upTo int64) (uint64, error) {
	var from, stored int64
	err := tx.QueryRow("SELECT accounted FROM epochs WHERE epoch = ?", epoch).Scan(&from)
	if errors.Is(err, sql.ErrNoRows) || err == nil && upTo <= from {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := tx.QueryRow("SELECT count(*) FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ? AND "+firstOfPack,
		epoch, number(from+1), number(upTo)).Scan(&stored); err != nil {
		return 0, err
	}
	holes := upTo - from - stored
	_, err = tx.Exec("UPDATE epochs SET accounted = ?, holes = holes + ? WHERE epoch = ?", upTo, holes, epoch)
	return uint64(holes), err
}

// Missing returns the stream sequence of the first pack up to upTo that is
// neither accounted for nor stored; ok is false when there is none.
func (s *Store) Missing(ctx context.Context, epoch string, upTo uint64) (seq uint64, ok bool, err error) {
	seq, ok, err = s.missing(ctx, epoch, upTo)
	if err != nil {
		return 0, false, fmt.Errorf("look for holes in epoch %s of the log: %w", epoch, err)
	}
	return seq, ok, nil
}

func (s *Store) missing(ctx context.Context, epoch string, upTo uint64) (uint64, bool, error) {
	var next uint64
	if err := s.readers.QueryRowContext(ctx, "SELECT accounted + 1 FROM epochs WHERE epoch = ?",
		epoch).Scan(&next); err != nil {
		return 0, false, err
	}
	rows, err := s.readers.QueryContext(ctx,
		"SELECT seq FROM messages WHERE epoch = ? AND seq BETWEEN ? AND ? AND "+firstOfPack+" ORDER BY seq",
		epoch, number(int64(next)), number(int64(min(upTo, math.MaxInt64))))
	if err != nil {
		return 0, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq uint64
		if err := rows.Scan(&seq); err != nil {
			return 0, false, err
		}
		if proto.PackOf(seq) != next {
			break
		}
		next++
	}
	return next, next <= upTo, rows.Err()
}

// Epochs lists every epoch of the file, oldest first.
func (s *Store) Epochs(ctx context.Context) ([]Epoch, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("list the epochs of the log: %w", err)
	}
	rows, err := s.readers.QueryContext(ctx,
		"SELECT epoch, first, accounted, holes FROM epochs ORDER BY length(epoch), epoch")
	if err != nil {
		return nil, fmt.Errorf("list the epochs of the log: %w", err)
	}
	defer rows.Close()
	var out []Epoch
	for rows.Next() {
		var e Epoch
		if err := rows.Scan(&e.Epoch, &e.First, &e.Accounted, &e.Holes); err != nil {
			return nil, fmt.Errorf("list the epochs of the log: %w", err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the epochs of the log: %w", err)
	}
	return out, nil
}
