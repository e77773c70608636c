package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// bus starts a session bus and returns its address.
func bus(t *testing.T) string {
	t.Helper()
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1")
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatalf("%v; Debian's package dbus-daemon has it", err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait() // killed
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// panel is a StatusNotifierItem host: it stands for the panel of a desktop.
type panel struct {
	t          *testing.T
	conn       *dbus.Conn
	registered chan string // names on the bus; never closed
}

// newPanel joins the bus as the one who shows icons.
func newPanel(t *testing.T, address string) *panel {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &panel{t: t, conn: conn, registered: make(chan string, 16)}
	if err := conn.Export(watcher{p.registered}, "/StatusNotifierWatcher",
		"org.kde.StatusNotifierWatcher"); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName("org.kde.StatusNotifierWatcher", dbus.NameFlagDoNotQueue); err != nil ||
		reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("got %v, %v", reply, err)
	}
	return p
}

// watcher has the method that icons call.
type watcher struct{ registered chan string }

func (w watcher) RegisterStatusNotifierItem(_ string, sender dbus.Sender) *dbus.Error {
	w.registered <- string(sender)
	return nil
}

// icon is the next icon that registers.
func (p *panel) icon() icon {
	p.t.Helper()
	select {
	case name := <-p.registered:
		return icon{p.t, p.conn, name}
	case <-time.After(time.Minute):
		p.t.Fatal("after a minute no icon has registered")
		return icon{}
	}
}

// icon is one that a program shows.
type icon struct {
	t    *testing.T
	conn *dbus.Conn
	name string
}

func (i icon) property(name string, into any) {
	i.t.Helper()
	v, err := i.conn.Object(i.name, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem." + name)
	if err == nil {
		err = v.Store(into)
	}
	if err != nil {
		i.t.Fatalf("property %s: %v", name, err)
	}
}

// menu is the lines that a person sees, with the number of each.
func (i icon) menu() (labels []string, ids map[string]int32) {
	i.t.Helper()
	var revision uint32
	type node struct {
		ID         int32
		Properties map[string]dbus.Variant
		Children   []dbus.Variant
	}
	var top node
	call := i.conn.Object(i.name, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.GetLayout", 0, int32(0),
		int32(-1), []string{})
	if err := call.Store(&revision, &top); err != nil {
		i.t.Fatal(err)
	}
	ids = map[string]int32{}
	for _, child := range top.Children {
		var n node
		if err := dbus.Store([]any{child.Value()}, &n); err != nil {
			i.t.Fatal(err)
		}
		if label, ok := n.Properties["label"].Value().(string); ok && label != "" {
			labels, ids[label] = append(labels, label), n.ID
		}
	}
	return labels, ids
}

func (i icon) choose(label string) {
	i.t.Helper()
	_, ids := i.menu()
	for deadline := time.Now().Add(time.Minute); ids[label] == 0 && time.Now().Before(deadline); _, ids = i.menu() {
		time.Sleep(10 * time.Millisecond) // it registers before its menu is complete
	}
	call := i.conn.Object(i.name, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.Event", 0, ids[label],
		"clicked", dbus.MakeVariant(""), uint32(0))
	if call.Err != nil || ids[label] == 0 {
		i.t.Fatalf("choose %s of %v: %v", label, ids, call.Err)
	}
}

// shows waits until the state, which is the first line of the menu, has a text.
func (i icon) shows(text string) {
	i.t.Helper()
	if !i.has(text, 2*time.Minute) {
		labels, _ := i.menu()
		i.t.Fatalf("after two minutes the state is not %q; the menu is %q", text, labels)
	}
}

// does chooses a line until the state has a text: on a busy machine the first choice may be told that NATS did not
// answer in time, as a person would be, who then tries again.
func (i icon) does(label, text string) {
	i.t.Helper()
	for range 8 {
		if i.choose(label); i.has(text, 15*time.Second) {
			return
		}
	}
	i.shows(text)
}

// has waits until the state has a text; false: it did not come in time.
func (i icon) has(text string, within time.Duration) bool {
	i.t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if labels, _ := i.menu(); len(labels) > 0 && strings.Contains(labels[0], text) {
			return true
		}
	}
	return false
}

// user is somebody at a desktop: with a home, a browser, and a clipboard.
type user struct {
	t    *testing.T
	home string
	env  []string
}

func newUser(t *testing.T, busAddress string) user {
	t.Helper()
	u := user{t: t, home: t.TempDir()}
	bin := filepath.Join(u.home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"xdg-open": "#!/bin/sh\necho \"$1\" >>" + u.home + "/opened\n",
		"xclip": "#!/bin/sh\ncat >" + u.home + "/clipboard.new; mv " + u.home + "/clipboard.new " + u.home +
			"/clipboard\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	u.env = []string{"HOME=" + u.home, "XDG_DATA_HOME=", "WAYLAND_DISPLAY=", "PATH=" + bin + ":" + os.Getenv("PATH"),
		"DBUS_SESSION_BUS_ADDRESS=" + busAddress}
	return u
}

// has waits for the content of a file in the home.
func (u user) has(file, want string) string {
	u.t.Helper()
	var b []byte
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if b, _ = os.ReadFile(filepath.Join(u.home, file)); strings.Contains(string(b), want) && len(b) > 0 {
			return string(b)
		}
	}
	u.t.Fatalf("after a minute %s has %q, want %q", file, b, want)
	return ""
}

// occupy listens at an address as another program would, until release is called;
// taken is how many have asked it something.
func occupy(t *testing.T, address string) (taken func() int, release func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked := 0
	done := make(chan struct{})
	go func() { // ends when the listener is closed; waited for by release
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			asked++
			mu.Unlock()
			_, _ = fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
			_ = conn.Close()
		}
	}()
	release = sync.OnceFunc(func() { _ = l.Close(); <-done })
	t.Cleanup(release)
	return func() int { mu.Lock(); defer mu.Unlock(); return asked }, release
}
