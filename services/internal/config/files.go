package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ReadFile reads a file that a person wrote, without the byte order mark that
// some editors put in front. One that this user may not read is an error that
// says what to do.
func ReadFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, Denied(path, err)
	}
	return []byte(strings.TrimPrefix(string(b), "\ufeff")), nil
}

// Denied is err, which came of using a file or folder; where permission is
// missing it also says who Herald is there and which command gives it. A folder
// that is mounted into a container most often belongs to somebody else.
func Denied(path string, err error) error {
	uid := os.Geteuid()
	if uid < 0 || !errors.Is(err, fs.ErrPermission) { // Windows has no such numbers
		return err
	}
	return fmt.Errorf("%w; Herald runs as user %d here: let that user in, on the machine that has it, with: sudo chown "+
		"-R %d:%d %s", err, uid, uid, os.Getegid(), path)
}
