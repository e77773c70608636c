package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/herald-push/herald/proto"
)

// Kinds of terms in the table words: the first byte of a term says what it was
// made of, so that the word "shop" is not found for the sender "shop".
const (
	termChannel = 'c'
	termPrefix  = 'p' // the first tokens of a channel
	termEvent   = 'e'
	termSender  = 's'
	termWord    = 'w'
)

const (
	// maxTermBytes cuts longer terms off: hits are checked against the rows.
	maxTermBytes = 48
	// maxPrefixTokens is how many tokens of a channel the longest termPrefix
	// has. Patterns that fix more of them are narrowed down by the rows.
	maxPrefixTokens = 3
)

// The rowid of a document is the number of its epoch and the sequence of its
// row, so that rowids have the order of the stream.
const (
	seqBits   = 48 // 2.8e11 packs of the stream, times 1024: 1,000 a second for eight years
	maxSeq    = 1<<seqBits - 1
	maxEpochs = 1<<(63-seqBits) - 1
)

func rowid(epoch, seq int64) int64 { return epoch<<seqBits | seq }

// document writes the terms of rows. The zero value is usable; not for
// concurrent use.
type document struct {
	words words
	text  []byte
}

// of returns the terms of a row, separated by spaces. They consist of ASCII
// letters and digits and of bytes above 127, which is what FTS5's tokenizer
// "ascii" makes one token of.
func (d *document) of(r *Row) string {
	d.text = d.text[:0]
	d.key(termChannel, r.Channel)
	for at, n := 0, 0; n < maxPrefixTokens; n++ {
		dot := strings.IndexByte(r.Channel[at:], '.')
		if dot < 0 {
			break
		}
		at += dot
		d.key(termPrefix, r.Channel[:at])
		at++
	}
	d.key(termEvent, r.Event)
	d.key(termSender, r.Sender)
	for i := range d.words.split(searchable(r.text())) {
		w := d.words.at(i)
		d.text = append(append(append(d.text, termWord), w[:min(len(w), maxTermBytes)]...), ' ')
	}
	return string(d.text)
}

func (d *document) key(kind byte, value string) {
	d.text = append(appendKey(d.text, kind, value), ' ')
}

// appendKey writes the term of a value that may have any character.
func appendKey(b []byte, kind byte, value string) []byte {
	return hex.AppendEncode(append(b, kind), []byte(value[:min(len(value), maxTermBytes)]))
}

func key(kind byte, value string) string { return `"` + string(appendKey(nil, kind, value)) + `"` }

// maxAlternatives bounds a clause; beyond it the rows decide alone.
const maxAlternatives = 200

// matchOf is the query of FTS5 for what the index can answer of a filter: a
// superset of its rows. Empty means that it can say nothing.
func matchOf(m *matcher) string {
	var clauses []string
	for _, patterns := range [][]string{{m.Channel}, m.Allowed} {
		if clause := channelClause(patterns); clause != "" {
			clauses = append(clauses, clause)
		}
	}
	if m.Sender != "" {
		clauses = append(clauses, key(termSender, m.Sender))
	}
	if m.Event != "" {
		clauses = append(clauses, key(termEvent, m.Event))
	}
	for _, p := range m.phrases {
		for i, w := range p.words {
			term := `"` + string(rune(termWord)) + string(w[:min(len(w), maxTermBytes)]) + `"`
			if p.prefix && i == len(p.words)-1 {
				term += "*"
			}
			clauses = append(clauses, term)
		}
	}
	return strings.Join(clauses, " AND ")
}

// channelClause finds the channels that one of the patterns matches; "" if the
// index cannot narrow them down.
func channelClause(patterns []string) string {
	if len(patterns) == 0 || len(patterns) > maxAlternatives {
		return ""
	}
	var terms []string
	for _, p := range patterns {
		if p == "" {
			return ""
		}
		if !proto.IsPattern(p) {
			terms = append(terms, key(termChannel, p))
			continue
		}
		tokens := strings.Split(p, ".")
		n := 0
		for n < len(tokens)-1 && n < maxPrefixTokens && tokens[n] != "*" {
			n++
		}
		if n == 0 {
			return ""
		}
		terms = append(terms, key(termPrefix, strings.Join(tokens[:n], ".")))
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// indexMissing indexes the rows of a file that an earlier version of Herald
// made, newest first, in small transactions; what a crash leaves is done by the
// next Open.
func (s *Store) indexMissing(ctx context.Context) error {
	for {
		var e Epoch
		var number, upTo int64
		err := s.writer.QueryRowContext(ctx,
			"SELECT epoch, number, unindexed FROM epochs WHERE unindexed > 0 ORDER BY number DESC LIMIT 1").
			Scan(&e.Epoch, &number, &upTo)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for rows without index: %w", err)
		}
		err = s.transact(ctx, func(tx *sql.Tx) error {
			rows, err := rowsBelow(tx, e.Epoch, upTo)
			if err != nil {
				return err
			}
			rest := int64(0)
			if len(rows) == indexRows {
				rest = int64(rows[len(rows)-1].Seq) - 1
			}
			if err := indexRowsOf(tx, number, rows); err != nil {
				return err
			}
			_, err = tx.Exec("UPDATE epochs SET unindexed = ? WHERE epoch = ?", rest, e.Epoch)
			return err
		})
		if err != nil {
			return fmt.Errorf("index epoch %s: %w", e.Epoch, err)
		}
	}
}

// rebuildIndex makes the index anew from the rows, since a damaged one accepts no
// more of them. The rows of a large log take minutes.
func (s *Store) rebuildIndex(ctx context.Context) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec("INSERT INTO words (words) VALUES ('delete-all')"); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE epochs SET unindexed = coalesce((SELECT max(seq) FROM messages m WHERE m.epoch = " +
			"epochs.epoch), 0)")
		return err
	})
	if err != nil {
		return fmt.Errorf("empty the damaged search index: %w", err)
	}
	return s.indexMissing(ctx)
}

// indexRows is how many rows indexMissing indexes in one transaction.
const indexRows = 1000

func rowsBelow(tx *sql.Tx, epoch string, upTo int64) ([]Row, error) {
	rows, err := tx.Query("SELECT "+readColumns+" FROM messages WHERE epoch = ? AND seq BETWEEN 1 AND ? ORDER BY seq "+
		"DESC LIMIT ?", epoch, upTo, indexRows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Row
	for rows.Next() {
		var r Row
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func indexRowsOf(tx *sql.Tx, number int64, rows []Row) error {
	var d document
	stmt, err := tx.Prepare("INSERT INTO words (rowid, terms) VALUES (?, ?)")
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i := range rows {
		if rows[i].Seq > maxSeq {
			continue // no stream gives such a sequence out
		}
		if _, err := stmt.Exec(rowid(number, int64(rows[i].Seq)), d.of(&rows[i])); err != nil {
			return err
		}
	}
	return nil
}

// numbered is an epoch with its number.
type numbered struct {
	epoch  string
	number int64
}

// span is a range of sequences of one epoch, both ends included.
type span struct{ first, last int64 }

var everything = span{0, math.MaxInt64}
