//go:build unix

package natsd

import "golang.org/x/sys/unix"

// Free is how many bytes an unprivileged process may still write there.
func Free(path string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
