//go:build dist

// The files of a release, used as people use them: on Windows (Wine), on arm64
// (QEMU), on a Debian that has nothing else, and compared byte by byte with
// those of another folder. `make dist-test` runs all of it, which takes minutes.
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var epoch = time.Date(2026, 11, 28, 15, 0, 0, 0, time.UTC)

// made is what a release consists of, by version; made once for all tests.
var made = struct {
	sync.Mutex
	folders map[string]string
}{folders: map[string]string{}}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, folder := range made.folders {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// dist is the folder of a release for some targets.
func dist(t *testing.T, version, only string) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if folder := made.folders[version+only]; folder != "" {
		return folder
	}
	folder, err := os.MkdirTemp("", "herald-dist-")
	if err != nil {
		t.Fatal(err)
	}
	made.folders[version+only] = folder
	r := release{source: "..", out: folder, version: version, revision: "5c016e5", date: epoch}
	if err := r.make(only); err != nil {
		t.Fatal(err)
	}
	return folder
}

// native unpacks the binary of this machine's processor and returns its path.
func native(t *testing.T) string {
	t.Helper()
	return unpacked(t, target{"linux", runtime.GOARCH})
}

// unpacked is the binary in a target's archive.
func unpacked(t *testing.T, of target) string {
	t.Helper()
	folder := t.TempDir()
	name := "herald-1.0.0-" + of.os + "-" + of.arch
	if of.os == "windows" {
		output(t, exec.Command("unzip", "-q", filepath.Join(dist(t, "v1.0.0", of.String()), name+".zip"), "-d", folder))
		return filepath.Join(folder, name, "herald.exe")
	}
	output(t, exec.Command("tar", "-xzf", filepath.Join(dist(t, "v1.0.0", of.String()), name+".tar.gz"), "-C", folder))
	return filepath.Join(folder, name, "herald")
}

// have reports whether programs are on this machine. What is not is said, and not
// tested: make dist-test installs what Debian has.
func have(t *testing.T, programs ...string) bool {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Logf("NOT TESTED here, for want of %s", p)
			fmt.Printf("NOT TESTED here, for want of %s: %s\n", p, t.Name())
			return false
		}
	}
	return true
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// Built in another folder, by a compiler that has nothing in its cache, a release
// has the same bytes.
func TestReproducible(t *testing.T) {
	only := target{"linux", runtime.GOARCH}.String() + ",windows/amd64"
	here := dist(t, "v1.0.0", only)
	elsewhere := filepath.Join(t.TempDir(), "another", "folder")
	if err := os.MkdirAll(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z")
	list.Dir = ".."
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	cp := exec.Command("cpio", "-0pdm", "--quiet", elsewhere)
	cp.Dir, cp.Stdin = "..", bytes.NewReader(files)
	output(t, cp)
	t.Setenv("GOCACHE", t.TempDir())
	r := release{source: elsewhere, out: filepath.Join(t.TempDir(), "dist"), version: "v1.0.0", revision: "5c016e5",
		date: epoch}
	if err := r.make(only); err != nil {
		t.Fatal(err)
	}
	if here, there := read(t, here, "SHA256SUMS"), read(t, r.out, "SHA256SUMS"); here != there || here == "" {
		t.Errorf("two folders, two results:\n%s\n%s", here, there)
	}
}

func read(t *testing.T, elements ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A new user's path: unpack, start, send; the message is on the screen.
func TestNewUser(t *testing.T) {
	dist(t, "v1.0.0", "linux/"+runtime.GOARCH) // downloaded
	began := time.Now()
	binary := native(t)
	h := start(t, exec.Command(binary, "-data", filepath.Join(t.TempDir(), "data")))
	h.deliver("Hello, browser")
	t.Logf("from the archive to a message at a client: tar, herald, curl; %.1f s", time.Since(began).Seconds())
	h.stop()
}

// The sums are right, the inventory names what the binary says that it is made
// of, and the binary knows its version.
func TestArchive(t *testing.T) {
	folder := dist(t, "v1.0.0", "linux/"+runtime.GOARCH)
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = folder
	output(t, check)
	binary := native(t)
	if got := output(t, exec.Command(binary, "-version")); !strings.HasPrefix(got,
		"herald v1.0.0 (revision 5c016e5, built 2026-11-28T15:00:00Z, ") {
		t.Errorf("got %q", got)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BomFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Dir(binary), "herald.cdx.json")), &bom); err != nil ||
		bom.BomFormat != "CycloneDX" {
		t.Fatalf("got %v, format %q", err, bom.BomFormat)
	}
	listed := map[string]string{}
	for _, c := range bom.Components {
		listed[c.Name] = c.Version
	}
	for _, dep := range info.Deps {
		want := strings.Replace(dep.Version, "(devel)", "v1.0.0", 1)
		if listed[dep.Path] != want {
			t.Errorf("the inventory has %s %q, want %s", dep.Path, listed[dep.Path], want)
		}
	}
	if len(info.Deps) < 20 || listed["std"] == "" {
		t.Errorf("%d modules, Go's own library %q: was it read at all?", len(info.Deps), listed["std"])
	}
}

// The binary for arm64 serves, on another processor's emulation.
func TestArm64(t *testing.T) {
	if runtime.GOARCH == "arm64" || !have(t, "qemu-aarch64-static") {
		return
	}
	binary := unpacked(t, target{"linux", "arm64"})
	if got := output(t, exec.Command("qemu-aarch64-static", binary, "-version")); !strings.Contains(got,
		"linux/arm64") {
		t.Errorf("got %q", got)
	}
	data := t.TempDir()
	h := start(t, exec.Command("qemu-aarch64-static", binary, "-data", data))
	h.deliver("from arm64")
	h.stop()
	h.logged(filepath.Join(data, "herald.db"), "from arm64")
}

// The RPM has the files where they belong, the scripts, and what it needs.
func TestRPM(t *testing.T) {
	if !have(t, "rpm") {
		return
	}
	found, err := filepath.Glob(filepath.Join(dist(t, "v1.0.0", "linux/"+runtime.GOARCH), "*.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatalf("got %v, %v", found, err)
	}
	query := func(what ...string) string {
		return output(t, exec.Command("rpm", append(append([]string{"-qp"}, what...), found[0])...))
	}
	output(t, exec.Command("rpm", "-K", "--nosignature", found[0]))
	files := query("--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]")
	for _, want := range []string{
		"-rwxr-xr-x root /usr/bin/herald\n", "-rw-r--r-- root /usr/lib/systemd/system/herald.service\n",
		"-rw------- root /etc/herald/herald.env\n",
		"-rw-r--r-- root /usr/share/applications/herald.desktop\n",
	} {
		if !strings.Contains(files, want) {
			t.Errorf("it lacks %q; it has\n%s", want, files)
		}
	}
	if got := query("-c"); got != "/etc/herald/herald.env\n" {
		t.Errorf("configuration files are %q", got)
	}
	if got := query("--requires"); !strings.Contains(got, "shadow-utils") {
		t.Errorf("it needs %q, and must need what makes users", got)
	}
	scripts := query("--scripts")
	for _, want := range []string{"postinstall", "preuninstall", "postuninstall", "useradd --system", "try-restart"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("its scripts lack %s:\n%s", want, scripts)
		}
	}
	if got := query("--queryformat", "%{NAME} %{VERSION} %{LICENSE} %{BUILDHOST}"); got != "herald 1.0.0 MIT herald" {
		t.Errorf("got %q", got)
	}
}

var keyShown = regexp.MustCompile(`API key: +(\S+)`)
