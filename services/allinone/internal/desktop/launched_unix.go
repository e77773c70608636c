//go:build !windows

package desktop

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Launched reports whether a file manager or a menu started this process, rather
// than a shell, a script or a supervisor: there is a display, and neither a
// terminal nor anybody who reads what it prints. On macOS it is never so: the
// Finder opens a terminal for a program that is no application.
func Launched() bool {
	if runtime.GOOS == "darwin" || os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return false
	}
	if tty, err := os.Open("/dev/tty"); err == nil {
		_ = tty.Close()
		return false
	}
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe != 0 || info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// detach gives a program a session of its own.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
