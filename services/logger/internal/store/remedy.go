package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// CheckWritable reports why the file could not be written now, and changes
// nothing: it begins a transaction as Append would and rolls it back. A file
// that is not there is fine.
func CheckWritable(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := OpenReader(ctx, path)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	writer, err := connect(path, mode{open: "rw", txlock: "immediate"})
	if err != nil {
		return fmt.Errorf("open the log %s: %w", path, err)
	}
	defer func() { _ = writer.Close() }() // nothing was written
	tx, err := writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write to the log %s: %w", path, markFull(err))
	}
	return tx.Rollback()
}

// Reasons are the values of Reason.
func Reasons() []string { return []string{"full", "denied", "locked", "damaged", "io", "other"} }

// Reason sorts an error of this package by what is wrong, in a word that is a
// label of a metric; empty without an error.
func Reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, fs.ErrPermission):
		return "denied"
	}
	switch resultCode(err) & 0xff {
	case sqliteBusy, sqliteLocked:
		return "locked"
	case sqliteCorrupt, sqliteNotADB:
		return "damaged"
	case sqliteReadOnly, sqliteCantOpen:
		return "denied"
	case sqliteIOErr:
		return "io"
	}
	return "other"
}

// Remedy says what a person can do about an error of this package; empty: it
// says all there is to say.
func Remedy(err error) string {
	switch resultCode(err) & 0xff {
	case sqliteBusy, sqliteLocked:
		return "another program has the file locked: end it, or its transaction (a sqlite3 shell, a backup)"
	case sqliteCorrupt, sqliteNotADB:
		return "move the file away, and a new log is made from what the stream still has"
	case sqliteReadOnly, sqliteCantOpen:
		return owner()
	case sqliteIOErr:
		if !errors.Is(err, ErrFull) {
			return "its disk answers with an error, which the kernel's log names (dmesg)"
		}
	}
	switch {
	case errors.Is(err, ErrFull):
		return "make room on its disk"
	case errors.Is(err, ErrVersion):
		return "or name another file with -db"
	case errors.Is(err, fs.ErrPermission):
		return owner()
	}
	return ""
}

// owner says whom the file and its folder must let in, and how: a folder that is
// mounted into a container most often belongs to somebody else.
func owner() string {
	uid := os.Geteuid()
	if uid < 0 { // Windows has no such numbers
		return "let the user that runs Herald write the file and its folder"
	}
	return fmt.Sprintf("let user %d, which Herald runs as, write the file and its folder: sudo chown -R %d:%d FOLDER, "+
		"on the machine that has it", uid, uid, os.Getegid())
}
