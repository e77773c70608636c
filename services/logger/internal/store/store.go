// Package store is the logger's SQLite file: schema, append, query, search,
// retention.
//
// Delivery: a row is there once, whatever comes twice: the primary key is
// (epoch, seq). Append commits a batch whole or not at all, with the file
// synced (WAL, synchronous=FULL), so what it returned for may be acknowledged.
//
// Ordering: rows are read in stream order, (epoch, seq), which is not the
// order in which they came. Pages stay stable under inserts.
//
// Search: the table words is SQLite's FTS5, written in the transaction of the
// rows. Its documents are terms that index.go makes of channel, sender, event
// and message, so the same code splits words for rows and for searches, and
// what a person types never is FTS5's query language. The index only narrows a
// search: every hit is checked against its row.
//
// Concurrency: all methods are safe for concurrent use. One connection
// writes; a transaction holds it for milliseconds. Readers never wait for it.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// busyTimeout is how long a statement waits for another process that has
	// the file locked, such as a person in the sqlite3 shell.
	busyTimeout = 5 * time.Second
	// cacheKiB of pages are kept by each connection.
	cacheKiB = 8 << 10
	// walBytes is what the write-ahead log is cut back to after a checkpoint.
	walBytes = 64 << 20
	// readers is how many queries run at once.
	readers = 4
)

// ErrFull: SQLite could not write, as there is no room (or the disk fails).
// The transaction was rolled back; nothing of it is in the file.
var ErrFull = errors.New("the log's file cannot grow; is the disk full?")

// ErrVersion: the file was made by another version of Herald.
var ErrVersion = errors.New("the log's file has another version")

//go:embed migrations/*.sql
var migrations embed.FS

// mode is how a pool opens the file, in SQLite's words; empty leaves the default.
type mode struct {
	open, journal, vacuum, queryOnly, txlock string
	// immutable: nobody writes the file, and SQLite makes none beside it.
	immutable bool
}

// Store is an open file. Open makes one, Close ends it.
type Store struct {
	path    string
	writer  *sql.DB // one connection; nil in a store that only reads
	readers *sql.DB
	// pageTime is how long one page may look for rows before it is returned
	// as it is, with a cursor to go on from.
	pageTime time.Duration
	doc      document     // owned by whoever has the writer's transaction
	stuck    atomic.Int64 // see Stuck

	preparing sync.Mutex
	prepared  atomic.Bool // set under preparing; the file has its schema
}

// defaultPageTime keeps a person waiting no longer than they look away.
const defaultPageTime = 2 * time.Second

// Open opens the file, makes it and its folder (for the owner only) where
// they are missing, and brings its schema up to date. Without room on the disk for
// that Open succeeds all the same: queries fail until a later Append, Begin, Account,
// Retain or Epochs finds room, and brings the schema up to date first.
func Open(ctx context.Context, path string) (*Store, error) {
	s := &Store{path: path, pageTime: defaultPageTime}
	var err error
	s.writer, err = connect(path, mode{open: "rw", journal: "WAL", vacuum: "incremental", txlock: "immediate"})
	if err != nil {
		return nil, fmt.Errorf("open the log %s: %w", path, err)
	}
	s.writer.SetMaxOpenConns(1)
	s.readers, err = connect(path, mode{open: "rw", queryOnly: "1"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log %s: %w", path, err), s.Close())
	}
	s.readers.SetMaxOpenConns(readers)
	s.readers.SetMaxIdleConns(readers)
	if err := s.prepare(ctx); err != nil && !errors.Is(err, ErrFull) {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare makes the file and its schema, once. Errors wrap ErrFull where
// there is no room.
func (s *Store) prepare(ctx context.Context) error {
	if s.prepared.Load() {
		return nil
	}
	s.preparing.Lock()
	defer s.preparing.Unlock()
	if s.prepared.Load() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("make the log's folder: %w", markFull(err))
	}
	// SQLite would make it readable for everybody; its WAL copies this mode.
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("open the log: %w", markFull(err))
	}
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("open the log %s: %w", s.path, err)
	}
	if err := s.indexMissing(ctx); err != nil {
		return fmt.Errorf("open the log %s: %w", s.path, err)
	}
	s.prepared.Store(true)
	return nil
}

// OpenReader opens an existing file for reading only, while a service may be
// writing it. Append and whatever else writes must not be called.
//
// SQLite keeps a shared memory file beside a log in WAL mode. Where it may make
// none (a folder mounted read-only), the file is read as it is, if nothing
// waits in a write-ahead log beside it: ErrReadOnlyFolder otherwise.
func OpenReader(ctx context.Context, path string) (*Store, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	s, err := openReader(ctx, path, mode{open: "ro", queryOnly: "1"})
	if code := resultCode(err) & 0xff; code == sqliteCantOpen || code == sqliteReadOnly {
		if info, statErr := os.Stat(path + "-wal"); statErr == nil && info.Size() > 0 {
			return nil, fmt.Errorf("%w: %s (%w)", ErrReadOnlyFolder, filepath.Dir(path), err)
		}
		s, err = openReader(ctx, path, mode{open: "ro", queryOnly: "1", immutable: true})
	}
	return s, err
}

// ErrReadOnlyFolder: the newest rows stand in a write-ahead log that SQLite
// cannot read without writing beside it.
var ErrReadOnlyFolder = errors.New("the log's folder is read-only, and rows wait in the file ending in -wal; " +
	"copy both files to a folder where you may write, and read the copy")

func openReader(ctx context.Context, path string, m mode) (*Store, error) {
	s := &Store{path: path, pageTime: defaultPageTime}
	s.prepared.Store(true) // by its writer
	var err error
	if s.readers, err = connect(path, m); err != nil {
		return nil, fmt.Errorf("open the log %s: %w", path, err)
	}
	s.readers.SetMaxOpenConns(readers)
	want, err := schemaVersion()
	if err == nil {
		var have int
		have, err = version(ctx, s.readers)
		if err == nil && have != want {
			err = fmt.Errorf("%w: %d, this program reads %d; the logger brings older ones up to date when it starts",
				ErrVersion, have, want)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Close waits for what runs and closes the file.
func (s *Store) Close() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close()) // last: it moves the WAL into the file
	}
	return errors.Join(errs...)
}

// FileBytes is what the file and its WAL take on the disk.
func (s *Store) FileBytes() (int64, error) {
	var n int64
	for _, path := range []string{s.path, s.path + "-wal"} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("size of the log: %w", err)
		}
		n += info.Size()
	}
	return n, nil
}

// schemaVersion is the number of the last migration.
func schemaVersion() (int, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	return len(files), err
}

// migrate applies the migrations that the file has not seen, each with its
// number in one transaction.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted, so in order
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	have, err := version(ctx, s.writer)
	if err != nil {
		return err
	}
	if have > len(files) {
		return fmt.Errorf("%w: %d, this program knows %d; use a newer Herald", ErrVersion, have, len(files))
	}
	for i, name := range files[have:] {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read migration: %w", err)
		}
		err = s.transact(ctx, func(tx *sql.Tx) error {
			if _, err := tx.Exec(string(text)); err != nil {
				return err
			}
			_, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", have+i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
	}
	return nil
}

func version(ctx context.Context, db *sql.DB) (int, error) {
	var v int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		return 0, fmt.Errorf("read its version: %w", markFull(err))
	}
	return v, nil
}

// write runs f in one transaction of the writer, which it has alone. Once
// begun it is not interrupted: half a batch is no use to anybody.
func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.transact(ctx, f)
}

// transact is write into a file that may lack its schema.
func (s *Store) transact(ctx context.Context, f func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := s.writer.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return markFull(err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // SQLite may have rolled back by itself; the first error counts
		return markFull(err)
	}
	return markFull(tx.Commit())
}

// Result codes of SQLite. No room, or a disk that refuses what is
// written, is SQLITE_FULL, and SQLITE_IOERR where it comes from writing (ENOSPC
// in the shared memory file, a quota): writeFaults.
const (
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteReadOnly = 8
	sqliteIOErr    = 10
	sqliteCorrupt  = 11
	sqliteNotADB   = 26
	sqliteFull     = 13
	sqliteCantOpen = 14
	// sqliteCorruptIndex is SQLITE_CORRUPT_VTAB: the tables of FTS5 are damaged.
	sqliteCorruptIndex = sqliteCorrupt | 1<<8
	// sqliteOverlap is SQLITE_CONSTRAINT_PRIMARYKEY: FTS5 writes a block where one is that its damaged list of blocks
	// lacks. Herald's own tables have no such conflict; see insertSQL.
	sqliteOverlap = 19 | 6<<8
)

var writeFaults = map[int]bool{
	sqliteIOErr | 3<<8:  true, // WRITE
	sqliteIOErr | 4<<8:  true, // FSYNC
	sqliteIOErr | 5<<8:  true, // DIR_FSYNC
	sqliteIOErr | 6<<8:  true, // TRUNCATE
	sqliteIOErr | 19<<8: true, // SHMSIZE
}

// markFull marks errors that mean a full disk with ErrFull.
func markFull(err error) error {
	code := resultCode(err)
	if code&0xff == sqliteFull || writeFaults[code] || errors.Is(err, syscall.ENOSPC) ||
		errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}

// fileURI names the file so that no character of its path is special.
func fileURI(path string, q url.Values) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}
