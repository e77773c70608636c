//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/herald-push/herald/services/admin"
)

// Nobody waits for a pipe into which nobody writes, and a device that never ends is not
// read.
func TestRelistenReadsFiles(t *testing.T) {
	cert, key := certificate(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l, _ := mover(t)
	now, _, _, _ := l.Now()
	for _, files := range [][2]string{{pipe, key}, {cert, pipe}, {"/dev/zero", key}, {cert, "/dev/zero"}} {
		_, _, err := l.Change(admin.Listen{Protocol: "https", Port: now.Port, CertPath: files[0], KeyPath: files[1]})
		if err == nil || !strings.Contains(err.Error(), "want a file") {
			t.Errorf("%v: got %v", files, err)
		}
	}
}
