package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxFile bounds a file that a person wrote: what is longer is another one, or a device
// that never ends.
const maxFile = 4 << 20

// ReadFile reads a file that a person wrote, without the byte order mark that
// some editors put in front. One that this user may not read is an error that
// says what to do. It waits for who writes into a pipe.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Denied(path, err)
	}
	defer func() { _ = f.Close() }() // it was read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, Denied(path, err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("%s has more than %d MiB; is it the right file?", path, maxFile>>20)
	}
	return []byte(strings.TrimPrefix(string(b), "\ufeff")), nil
}

// ReadRegular is ReadFile for a file that is read again while Herald runs, when nobody
// may wait: a pipe or a device is an error.
func ReadRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil: // ReadFile says why
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder; want a file", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is a device or a pipe; want a file", path)
	}
	return ReadFile(path)
}

// Denied is err, which came of using a file or folder; where permission is
// missing it also says who Herald is there and which command gives it. A folder
// that is mounted into a container most often belongs to somebody else.
func Denied(path string, err error) error {
	uid := os.Geteuid()
	if uid < 0 || !errors.Is(err, fs.ErrPermission) { // Windows has no such numbers
		return err
	}
	return fmt.Errorf("%w; Herald runs as user %d here: let that user in, on the machine that has it, "+
		"with: sudo chown -R %d:%d %s", err, uid, uid, os.Getegid(), path)
}
