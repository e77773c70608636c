//go:build unix

package httpx

import "syscall"

// OpenFilesLimit is the soft limit on open files of this process. The Go
// runtime has raised it to the hard limit at the start.
func OpenFilesLimit() (n uint64, ok bool) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true
}
