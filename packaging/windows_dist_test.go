//go:build dist

package main

import (
	"bufio"
	"bytes"
	"fmt"
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
	server := "wineserver"
	if _, err := exec.LookPath(server); err != nil {
		server = "wineserver-stable"
	}
	quietly := func(name string, flags ...string) { // what stays in the background would hold a pipe open
		cmd := exec.Command(name, flags...)
		cmd.Env = environment
		if err := cmd.Run(); err != nil {
			t.Errorf("%v: %v", cmd.Args, err)
		}
	}
	quietly("wineboot", "-i")
	quietly(server, "-w")
	// From now on it stays when a command ends: else each command would boot Windows
	// and start its services. (Begun before wineboot, there would be two service managers.)
	quietly(server, "-p")
	quietly("wine", "cmd", "/c", "exit") // boots it: what stays has no pipe of a later command
	t.Cleanup(func() { quietly(server, "-k"); quietly(server, "-w") })
	// Debian's Wine is older than Windows' function ProcessPrng, from which Go takes
	// random numbers. A library that consists of its name alone sends callers on to
	// the older function of the same shape.
	system := filepath.Join(prefix, "drive_c", "windows", "system32")
	if _, err := os.Stat(filepath.Join(system, "bcryptprimitives.dll")); err == nil {
		return environment
	}
	definition := filepath.Join(prefix, "prng.def")
	if err := os.WriteFile(definition,
		[]byte("LIBRARY bcryptprimitives.dll\nEXPORTS\n  ProcessPrng = advapi32.SystemFunction036\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(prefix, "empty.o")
	assemble := exec.Command("x86_64-w64-mingw32-as", "-o", object)
	assemble.Stdin = strings.NewReader("\n")
	output(t, assemble)
	output(t, exec.Command("x86_64-w64-mingw32-ld", "-shared", "-e", "0", object, definition, "-o",
		filepath.Join(system, "bcryptprimitives.dll")))
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
	if got := output(t, version); !strings.HasPrefix(got, "herald v1.0.0 (revision 5c016e5, ") ||
		!strings.Contains(got, "windows/amd64") {
		t.Errorf("got %q", got)
	}
	cmd := exec.Command("wine", exe, "-data", "data")
	cmd.Env, cmd.Dir = environment, t.TempDir()
	h := start(t, cmd)
	h.deliver("from Windows")
	second := exec.Command("wine", exe, "-data", "other", "-listen", h.address)
	second.Env, second.Dir = environment, cmd.Dir
	if got, err := second.CombinedOutput(); err == nil || !strings.Contains(string(got),
		"choose another one with -listen or HERALD_LISTEN, such as localhost:5001; it is a Herald: http://"+h.address) {
		t.Errorf("a second start on the same port: got %v and\n%s", err, got)
	}
	h.stop()
	h.logged(filepath.Join(cmd.Dir, "data", "herald.db"), "from Windows")
}

// herald service makes it a service of Windows, which that starts and stops.
func TestWindowsService(t *testing.T) {
	if !have(t, "wine", "wineboot", "x86_64-w64-mingw32-ld", "unzip", "sqlite3") {
		return
	}
	exe, environment := unpacked(t, target{"windows", "amd64"}), wine(t)
	herald := func(words ...string) (string, error) {
		cmd := exec.Command("wine", append([]string{exe, "service"}, words...)...)
		cmd.Env = environment
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	expect := func(want string, fails bool, words ...string) {
		t.Helper()
		if out, err := herald(words...); (err != nil) != fails || !strings.Contains(out, want) {
			t.Fatalf("herald service %v: got %q, %v; want %q", words, out, err, want)
		}
	}
	expect("is not installed", true, "status")
	drive := filepath.Join(prefixOf(environment), "drive_c")
	for data, flags := range map[string][]string{
		filepath.Join(drive, "ProgramData", "Herald"): nil,
		filepath.Join(drive, "My Herald", "Däta"):     {"-data", `C:\My Herald\Däta`},
	} {
		address := freePort(t)
		expect("the service is installed", false,
			append([]string{"install", "-listen", address, "-ops-listen", freePort(t)}, flags...)...)
		expect("is installed already", true, "install")
		expect("the service is stopped", true, "status")
		expect("the service is started", false, "start")
		expect("the service runs", false, "status")
		h := &running{t: t, address: address}
		h.await("its greeting", func() bool {
			b, _ := os.ReadFile(filepath.Join(data, "greeting.txt"))
			if shown := keyShown.FindStringSubmatch(string(b)); shown != nil {
				h.key = shown[1]
			}
			return h.key != ""
		})
		h.deliver("from a service")
		expect("the service is stopped", false, "stop")
		if got := read(t, data, "herald.log"); !strings.Contains(got, "msg=stopping") {
			t.Errorf("its log does not say that it stopped:\n%s", got)
		}
		h.logged(filepath.Join(data, "herald.db"), "from a service")
		expect("its data is where it was", false, "uninstall")
		expect("is not installed", true, "status")
	}
}

// The windowed build, started without a word, serves with a tray icon and with data
// where Windows keeps it.
func TestWindowsDesktop(t *testing.T) {
	if !have(t, "wine", "wineboot", "x86_64-w64-mingw32-ld", "unzip", "Xvfb") {
		return
	}
	exe := filepath.Join(filepath.Dir(unpacked(t, target{"windows", "amd64"})), "herald-desktop.exe")
	environment := append(wine(t), "DISPLAY="+display(t))
	folder, address := t.TempDir(), freePort(t)
	if err := os.MkdirAll(filepath.Join(folder, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf(`{"listen": %q, "ops-listen": %q}`, address, freePort(t))
	if err := os.WriteFile(filepath.Join(folder, "config", "socket_config.json"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &running{t: t, cmd: exec.Command("wine", exe), address: address, done: make(chan error, 1)}
	h.cmd.Env, h.cmd.Dir, h.cmd.Stdout, h.cmd.Stderr = environment, folder, &h.out, &h.out
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { h.done <- h.cmd.Wait() }()
	t.Cleanup(func() { _ = h.cmd.Process.Kill() })
	var log string
	h.await("it is ready", func() bool {
		found, _ := filepath.Glob(filepath.Join(prefixOf(environment), "drive_c", "users", "*", "AppData", "Local",
			"Herald", "herald.log"))
		if len(found) == 1 {
			log = read(t, found[0])
		}
		return strings.Contains(log, "msg=ready")
	})
	if strings.Contains(log, "no tray icon") {
		t.Errorf("it has no tray:\n%s", log)
	}
}

// display starts a virtual screen and returns its name.
func display(t *testing.T) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	screen := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp")
	screen.ExtraFiles = []*os.File{w}
	if err := screen.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = screen.Process.Kill()
		_ = screen.Wait() // killed
	})
	_ = w.Close() // the child has its own
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return ":" + strings.TrimSpace(number)
}

// prefixOf is the folder of a Wine.
func prefixOf(environment []string) string {
	for _, v := range environment {
		if folder, ok := strings.CutPrefix(v, "WINEPREFIX="); ok {
			return folder
		}
	}
	return ""
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
		for _, want := range []string{"ProductVersion1.0.0", "FileVersion1.0.0.0", "ProductNameHerald",
			"OriginalFilename" + filepath.Base(exe)} {
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
