package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// errNoRoom: the disk is as good as full.
var errNoRoom = errors.New("there is no room on the disk")

// room says whether the disk has room for another message. While it has not, Herald gives
// nats-server nothing to store, because nats-server remembers a write that failed; what room
// there is serves small writes, such as the stream's settings.
func room(dir string) error {
	free, err := Free(dir)
	if err != nil || free >= roomForRestart {
		return nil // others report a folder that cannot be read
	}
	return fmt.Errorf("%w: %d KiB are left and %d needed: %w", errNoRoom, free>>10, roomForRestart>>10, syscall.ENOSPC)
}

const (
	// roomForRestart is what must fit on the disk before a nats-server is
	// restarted: its own files (some KiB), and messages of a few seconds, so
	// that it does not fail again at once.
	roomForRestart = 1 << 20
	// filesForRestart is how many files must be free: nats-server opens a few at
	// once while it recovers its streams.
	filesForRestart = 8
)

// writable says what keeps nats-server from storing in dir: it writes and syncs
// roomForRestart bytes there, with filesForRestart files open, and removes them
// away again. That is asked of the disk itself, as neither a quota nor a
// read-only file system can be seen from the free space.
func writable(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for range filesForRestart - 1 {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only opened
	}
	f, err := os.OpenFile(probeFile(dir), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	// Not zeros, which some file systems do not store.
	chunk := make([]byte, 64<<10)
	for i := range chunk {
		chunk[i] = byte(i*i>>3) | 1
	}
	for range roomForRestart / len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return fmt.Errorf("room for %d KiB is needed: %w", roomForRestart>>10, err)
		}
	}
	return f.Sync()
}

// probeFile is what writable writes. One that a killed process left is removed
// at the next start.
func probeFile(dir string) string { return filepath.Join(dir, ".herald-room") }

// openable says whether a file can be opened.
func openable(dir string) error {
	f, err := os.Open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing was stored yet
		return nil
	case err != nil:
		return err
	}
	return f.Close()
}

// Passes reports whether a fault may pass without anybody correcting a
// setting: no room on the disk, none in the quota, or no file left to open.
func Passes(err error) bool {
	var n syscall.Errno
	if !errors.As(err, &n) {
		return false
	}
	if runtime.GOOS == "windows" { // which has its own numbers
		return n == 4 || n == 39 || n == 112 // ERROR_TOO_MANY_OPEN_FILES, ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL
	}
	return n == syscall.ENOSPC || n == syscall.EDQUOT || n == syscall.EMFILE || n == syscall.ENFILE
}
