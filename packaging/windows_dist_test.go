//go:build dist

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// wine makes a Windows that has what Go programs need, in a folder of its own.
func wine(t *testing.T) (environment []string) {
	t.Helper()
	prefix := t.TempDir()
	environment = append(os.Environ(), "WINEPREFIX="+prefix, "WINEDEBUG=-all", "DISPLAY=", "WAYLAND_DISPLAY=")
	boot := exec.Command("wineboot", "-i")
	boot.Env = environment
	output(t, boot)
	t.Cleanup(func() { // ends what runs in this prefix, and nothing else
		for _, name := range []string{"wineserver", "wineserver-stable"} {
			if _, err := exec.LookPath(name); err == nil {
				end := exec.Command(name, "-k", "-w")
				end.Env = environment
				_ = end.Run() // it fails where nothing runs
				return
			}
		}
	})
	// Debian's Wine is older than Windows' function ProcessPrng, from which Go takes
	// random numbers. A library that consists of its name alone sends callers on to
	// the older function of the same shape.
	system := filepath.Join(prefix, "drive_c", "windows", "system32")
	if _, err := os.Stat(filepath.Join(system, "bcryptprimitives.dll")); err == nil {
		return environment
	}
	definition := filepath.Join(prefix, "prng.def")
	if err := os.WriteFile(definition, []byte("LIBRARY bcryptprimitives.dll\nEXPORTS\n  ProcessPrng = advapi32.SystemFunction036\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(prefix, "empty.o")
	assemble := exec.Command("x86_64-w64-mingw32-as", "-o", object)
	assemble.Stdin = strings.NewReader("\n")
	output(t, assemble)
	output(t, exec.Command("x86_64-w64-mingw32-ld", "-shared", "-e", "0", object, definition, "-o", filepath.Join(system, "bcryptprimitives.dll")))
	return environment
}

// The Windows executable serves, accepts a POST, delivers over WebSocket, writes
// its log, and stops when it is told to.
func TestWindows(t *testing.T) {
	if !have(t, "wine", "wineboot", "x86_64-w64-mingw32-ld", "unzip", "sqlite3") {
		return
	}
	exe, environment := unpacked(t, target{"windows", "amd64"}), wine(t)
	version := exec.Command("wine", exe, "-version")
	version.Env = environment
	if got := output(t, version); !strings.HasPrefix(got, "herald v1.0.0 (revision 5c016e5, ") || !strings.Contains(got, "windows/amd64") {
		t.Errorf("got %q", got)
	}
	cmd := exec.Command("wine", exe, "-data", "data")
	cmd.Env, cmd.Dir = environment, t.TempDir()
	h := start(t, cmd)
	h.deliver("from Windows")
	h.stop()
	h.logged(filepath.Join(cmd.Dir, "data", "herald.db"), "from Windows")
}

// What Explorer shows of the executables: the icon of web/favicon.ico, picture by
// picture, and the version. One of them opens no console.
func TestWindowsResources(t *testing.T) {
	if !have(t, "wrestool", "icotool", "unzip", "x86_64-w64-mingw32-objdump") {
		return
	}
	console := unpacked(t, target{"windows", "amd64"})
	windowed := filepath.Join(filepath.Dir(console), "herald-desktop.exe")
	for exe, subsystem := range map[string]string{console: "(Windows CUI)", windowed: "(Windows GUI)"} {
		icon := filepath.Join(t.TempDir(), "icon.ico")
		output(t, exec.Command("wrestool", "-x", "--type=14", "-o", icon, exe))
		if got, want := read(t, icon), read(t, "..", "web", "favicon.ico"); !sameIcon(t, got, want) {
			t.Errorf("%s: its icon is not web/favicon.ico", filepath.Base(exe))
		}
		raw, err := exec.Command("wrestool", "-x", "--raw", "--type=16", exe).Output()
		if err != nil {
			t.Fatal(err)
		}
		text := string(bytes.ReplaceAll(raw, []byte{0}, nil)) // UTF-16 of ASCII
		for _, want := range []string{"ProductVersion1.0.0", "FileVersion1.0.0.0", "ProductNameHerald", "OriginalFilename" + filepath.Base(exe)} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: its version lacks %s: %q", filepath.Base(exe), want, text)
			}
		}
		if got := output(t, exec.Command("x86_64-w64-mingw32-objdump", "-p", exe)); !strings.Contains(got, subsystem) {
			t.Errorf("%s: want the subsystem %s", filepath.Base(exe), subsystem)
		}
	}
}

// sameIcon compares the pictures of two icon files, which may lie in other places.
func sameIcon(t *testing.T, a, b string) bool {
	t.Helper()
	pictures := func(icon string) (all []string) {
		folder := t.TempDir()
		path := filepath.Join(folder, "icon.ico")
		if err := os.WriteFile(path, []byte(icon), 0o600); err != nil {
			t.Fatal(err)
		}
		output(t, exec.Command("icotool", "-x", "-o", folder, path))
		found, err := filepath.Glob(filepath.Join(folder, "*.png"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no pictures in the icon (%v)", err)
		}
		for _, p := range found {
			all = append(all, read(t, p))
		}
		return all
	}
	return strings.Join(pictures(a), "|") == strings.Join(pictures(b), "|")
}
