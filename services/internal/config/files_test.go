package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFileSkipsTheByteOrderMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("\ufeffa-secret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(path); err != nil || string(b) != "a-secret\r\n" {
		t.Errorf("got %q, %v", b, err)
	}
	if s, err := ReadSecret(path); err != nil || s != "a-secret" {
		t.Errorf("secret: got %q, %v", s, err)
	}
}

// A file has an end, and one that is read while others wait is a file.
func TestReadFileEnds(t *testing.T) {
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(long); err == nil || !strings.Contains(err.Error(), long) {
		t.Errorf("got %v", err)
	}
	if err := os.Truncate(long, maxFile); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadRegular(long); err != nil || len(b) != maxFile {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	for path, want := range map[string]string{os.DevNull: "want a file", t.TempDir(): "is a folder",
		long + "er": "er"} {
		if _, err := ReadRegular(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// Where permission is missing, the message has the user and the command.
func TestDenied(t *testing.T) {
	err := Denied("/data", &fs.PathError{Op: "mkdir", Path: "/data/x", Err: fs.ErrPermission})
	if uid := os.Geteuid(); uid >= 0 {
		for _, want := range []string{"/data/x", fmt.Sprintf("user %d", uid), fmt.Sprintf("chown -R %d:%d /data", uid,
			os.Getegid())} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s in it", err, want)
			}
		}
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the cause is lost: %v", err)
	}
	if err := Denied("/data", fs.ErrNotExist); err != fs.ErrNotExist {
		t.Errorf("something else: got %v", err)
	}
}
