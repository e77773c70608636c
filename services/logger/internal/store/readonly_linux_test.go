package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A log on a read-only mount, where SQLite can make no file beside it, is read
// if it is whole; the error says what to do if rows wait in its WAL.
func TestOpenReaderInAReadOnlyFolder(t *testing.T) {
	if path := os.Getenv(readOnlyEnv); path != "" {
		r, err := OpenReader(context.Background(), path)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(len(all(t, r, Filter{Search: "full"})), "rows")
		_ = r.Close()
		return
	}
	dir, err := os.MkdirTemp("", "herald-log") // below t.TempDir only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "herald.db")
	s, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, rows(epochA, 1, 10))
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		t.Helper()
		for name, mode := range map[string]os.FileMode{dir: 0o555, path: 0o444, path + "-wal": 0o444} {
			if err := os.Chmod(name, mode); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestOpenReaderInAReadOnlyFolder$", "-test.v")
		cmd.Env = append(os.Environ(), readOnlyEnv+"="+path)
		if os.Getuid() == 0 { // root may write anywhere
			binary := filepath.Join(dir, "test")
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			program, err := os.ReadFile(os.Args[0])
			if err == nil {
				err = os.WriteFile(binary, program, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			cmd = exec.Command(binary, cmd.Args[1:]...)
			cmd.Dir, cmd.Env = "/", append(os.Environ(), readOnlyEnv+"="+path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := read(); !strings.Contains(got, "10 rows") {
		t.Errorf("a whole log: got %s, want 10 rows", got)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", wal, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(); !strings.Contains(got, ErrReadOnlyFolder.Error()) {
		t.Errorf("a log with a WAL: got %s, want %q", got, ErrReadOnlyFolder)
	}
}

const readOnlyEnv = "HERALD_TEST_READ_ONLY"
