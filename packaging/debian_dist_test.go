//go:build dist

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// root is a Debian that has nothing but its base system.
type root struct {
	t    *testing.T
	path string
}

// debootstrapped makes one.
func debootstrapped(t *testing.T) root {
	t.Helper()
	r := root{t, t.TempDir()}
	output(t, exec.Command("debootstrap", "--variant=minbase", "--include=systemd", "bookworm", r.path,
		"http://deb.debian.org/debian"))
	return r
}

// command runs in the root, as user or, if that is empty, as root.
func (r root) command(user string, words ...string) *exec.Cmd {
	args := []string{r.path}
	if user != "" {
		args = []string{"--userspec=" + user + ":" + user, r.path}
	}
	cmd := exec.Command("chroot", append(args, words...)...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
		"LC_ALL=C", "SYSTEMD_OFFLINE=1"}
	return cmd
}

// install copies a release's package into the root and installs it.
func (r root) install(version string) {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(dist(r.t, version, "linux/"+runtime.GOARCH), "*.deb"))
	if err != nil || len(found) != 1 {
		r.t.Fatalf("got %v, %v", found, err)
	}
	if err := os.WriteFile(filepath.Join(r.path, "herald.deb"), []byte(read(r.t, found[0])), 0o644); err != nil {
		r.t.Fatal(err)
	}
	output(r.t, r.command("", "dpkg", "-i", "/herald.deb"))
}

// service is the command that the installed unit would start, with its user and
// its environment.
func (r root) service() *exec.Cmd {
	r.t.Helper()
	unit := read(r.t, r.path, "lib", "systemd", "system", "herald.service")
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			r.t.Fatalf("the unit has no %s:\n%s", key, unit)
		}
		return m[1]
	}
	cmd := r.command(value("User"), append([]string{"env", "-C", value("WorkingDirectory"), value("Environment")},
		strings.Fields(value("ExecStart"))...)...)
	return cmd
}

func (r root) has(path string) bool {
	_, err := os.Lstat(filepath.Join(r.path, path))
	return err == nil
}

// The package on a Debian that has nothing else: installed, started as its unit
// says, upgraded, removed, installed again and purged.
func TestDebian(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("NOT TESTED here, for want of root, who makes a clean Debian")
		return
	}
	if !have(t, "debootstrap", "chroot", "sqlite3") {
		return
	}
	r := debootstrapped(t)
	dist(t, "v1.0.0", "linux/"+runtime.GOARCH) // downloaded
	began := time.Now()
	r.install("v1.0.0")
	h := start(t, r.service())
	h.deliver("before the upgrade")
	t.Logf("from the package to a message at a client: dpkg, curl; %.1f s", time.Since(began).Seconds())
	output(t, r.command("", "systemd-analyze", "verify", "--man=no", "/lib/systemd/system/herald.service"))
	if !r.has("etc/systemd/system/multi-user.target.wants/herald.service") {
		t.Error("the service is not enabled")
	}
	if got := output(t, r.command("", "stat", "-c", "%U %a", "/var/lib/herald",
		"/etc/herald/herald.env")); got != "herald 700\nroot 600\n" {
		t.Errorf("owners and modes of data and settings are %q", got)
	}
	h.stop()
	key := h.key

	settings := filepath.Join(r.path, "etc", "herald", "herald.env")
	if err := os.WriteFile(settings, []byte("HERALD_LOG_LEVEL=debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, r.command("", "systemctl", "disable", "herald"))
	r.install("v1.0.1")
	if r.has("etc/systemd/system/multi-user.target.wants/herald.service") {
		t.Error("the upgrade enabled what the administrator had disabled")
	}
	output(t, r.command("", "systemctl", "enable", "herald"))
	if got := output(t, r.command("", "herald", "-version")); !strings.HasPrefix(got, "herald v1.0.1 ") {
		t.Errorf("after the upgrade it is %q", got)
	}
	if got := read(t, settings); got != "HERALD_LOG_LEVEL=debug\n" {
		t.Errorf("the upgrade changed the settings: %q", got)
	}
	h = start(t, r.service())
	if h.key != "" {
		t.Errorf("the upgrade made another API key")
	}
	h.key = key
	h.history("before the upgrade")
	h.deliver("after the upgrade")
	h.stop()
	h.logged(filepath.Join(r.path, "var", "lib", "herald", "herald.db"), "after the upgrade")

	output(t, r.command("", "dpkg", "--remove", "herald"))
	if r.has("usr/bin/herald") || !r.has("var/lib/herald/herald.db") || !r.has("etc/herald/herald.env") {
		t.Error("to remove the package must take the program away, and leave data and settings")
	}
	r.install("v1.0.1")
	h = start(t, r.service())
	h.key = key
	h.history("after the upgrade")
	h.stop()
	output(t, r.command("", "dpkg", "--purge", "herald"))
	for _, path := range []string{"usr/bin/herald", "var/lib/herald", "etc/herald",
		"etc/systemd/system/multi-user.target.wants/herald.service"} {
		if r.has(path) {
			t.Errorf("after the purge there still is /%s", path)
		}
	}
	if got, err := r.command("", "getent", "passwd", "herald").Output(); err == nil {
		t.Errorf("after the purge there still is the user %q", got)
	}
	r.asService()
}

// asService has a binary, without a package, make itself a service of systemd.
// systemd itself does not run here: its offline commands do, and what it would
// start is started as the unit says.
func (r root) asService() {
	t := r.t
	t.Helper()
	for path, content := range map[string]string{"usr/local/bin/herald": read(t, native(t)),
		"run/systemd/system/.keep": ""} {
		at := filepath.Join(r.path, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(r.path, "proc", "self", "exe")
	if _, err := os.Lstat(self); err != nil { // /proc is not mounted here: a program learns where it lies
		if err := errors.Join(os.MkdirAll(filepath.Dir(self), 0o755),
			os.Symlink("/usr/local/bin/herald", self)); err != nil {
			t.Fatal(err)
		}
	}
	output(t, r.command("", "useradd", "--system", "--create-home", "push"))
	got := output(t, r.command("", "env", "-C", "/home/push", "HERALD_LOG_LEVEL=debug", "herald", "service",
		"install", "-user", "push", "-data", "my data"))
	if !strings.Contains(got, "the service is installed") {
		t.Errorf("got %q", got)
	}
	output(t, r.command("", "systemd-analyze", "verify", "--man=no", "/etc/systemd/system/herald.service"))
	if got := output(t, r.command("", "systemctl", "is-enabled", "herald")); got != "enabled\n" {
		t.Errorf("the service is %q", got)
	}
	unit := read(t, r.path, "etc", "systemd", "system", "herald.service")
	for _, want := range []string{
		"\nUser=push\n", "\nEnvironment=\"HERALD_LOG_LEVEL=debug\"\n",
		`ExecStart=/usr/local/bin/herald "service" "run" "-folder" "/home/push" "-data" "my data" "-user" ` +
			`"push" "-data" "my data"` + "\n",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q:\n%s", want, unit)
		}
	}
	h := start(t, r.command("push", "herald", "service", "run", "-folder", "/home/push", "-data", "my data"))
	h.deliver("from a service")
	h.stop()
	h.logged(filepath.Join(r.path, "home", "push", "my data", "herald.db"), "from a service")
	output(t, r.command("", "herald", "service", "uninstall"))
	if r.has("etc/systemd/system/herald.service") || !r.has("home/push/my data/herald.db") {
		t.Error("to uninstall the service must take the unit away, and leave the data")
	}
}
