//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/herald-push/herald/services/internal/proctest"
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
	if err := conn.Export(watcher{p.registered}, "/StatusNotifierWatcher", "org.kde.StatusNotifierWatcher"); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName("org.kde.StatusNotifierWatcher", dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
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
	call := i.conn.Object(i.name, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{})
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
	call := i.conn.Object(i.name, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.Event", 0, ids[label], "clicked", dbus.MakeVariant(""), uint32(0))
	if call.Err != nil || ids[label] == 0 {
		i.t.Fatalf("choose %s of %v: %v", label, ids, call.Err)
	}
}

// shows waits until the state, which is the first line of the menu, has a text.
func (i icon) shows(text string) {
	i.t.Helper()
	var labels []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if labels, _ = i.menu(); len(labels) > 0 && strings.Contains(labels[0], text) {
			return
		}
	}
	i.t.Fatalf("after a minute the state is not %q; the menu is %q", text, labels)
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
		"xclip":    "#!/bin/sh\ncat >" + u.home + "/clipboard.new; mv " + u.home + "/clipboard.new " + u.home + "/clipboard\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	u.env = []string{"HOME=" + u.home, "XDG_DATA_HOME=", "WAYLAND_DISPLAY=", "PATH=" + bin + ":" + os.Getenv("PATH"), "DBUS_SESSION_BUS_ADDRESS=" + busAddress}
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

// herald desktop on a desktop with a panel: an icon, a state, and a menu that does
// what it says. A second start opens the first; a taken port is shown, and waited
// for.
func TestTray(t *testing.T) {
	address := bus(t)
	panel := newPanel(t, address)
	u := newUser(t, address)
	port := proctest.FreePort(t)
	base := "http://127.0.0.1:" + port
	args := []string{"desktop", "-listen", "127.0.0.1:" + port, "-ops-listen", "127.0.0.1:" + proctest.FreePort(t)}
	taken, release := occupy(t, "127.0.0.1:"+port)
	p := start(t, "allinone", u.home, u.env, args...)
	shown := panel.icon()
	shown.shows("port taken: another program has 127.0.0.1:" + port)
	if release(); taken() == 0 {
		t.Error("nobody asked the program that had the port whether it is Herald")
	}
	shown.shows("serving on " + base + "/admin/")
	u.has("opened", base+"/admin/\n")

	var title string
	var pictures []struct {
		Width, Height int32
		Pixels        []byte
	}
	if shown.property("Title", &title); title != "Herald" {
		t.Errorf("got the title %q", title)
	}
	if shown.property("IconPixmap", &pictures); len(pictures) != 1 || pictures[0].Width < 32 || len(pictures[0].Pixels) != int(pictures[0].Width*pictures[0].Height*4) {
		t.Errorf("the icon is %v", pictures)
	}
	labels, _ := shown.menu()
	if want := []string{"Open", "Copy API key", "Copy console password", "Send a test message", "Quit"}; !slices.Equal(labels[1:], want) {
		t.Errorf("got the menu %q, want %q", labels, want)
	}

	shown.choose("Copy API key")
	shown.shows("the API key is in the clipboard")
	key := u.has("clipboard", "")
	if status, answer := proctest.Post(t, base+"/v1/channels/broadcast", key, "text/plain", "by the copied key"); status != 200 {
		t.Errorf("the copied key: %d %s", status, answer)
	}
	if status, _ := proctest.Post(t, base+"/v1/channels/broadcast", key+"x", "text/plain", "by another"); status != 401 {
		t.Errorf("another key: %d, want 401", status)
	}
	shown.choose("Copy console password")
	shown.shows("the password of admin is in the clipboard")
	if password := u.has("clipboard", ""); password == key || !strings.Contains(u.has(".local/share/herald/greeting.txt", "password"), password) {
		t.Errorf("the copied password is %q, and not that of the greeting", password)
	}
	listener := start(t, "allinone", u.home, u.env, "listen", "-since", "all", "-url", base)
	listener.WaitFor("by the copied key")
	shown.choose("Send a test message")
	listener.WaitFor("A test message from the desktop")
	listener.Kill()
	shown.choose("Copy API key")
	shown.shows("the API key is in the clipboard")
	if again := u.has("clipboard", "hk_"); again != key {
		t.Errorf("the second time the key is %q, want the same: %q", again, key)
	}

	second := start(t, "allinone", u.home, u.env, args...)
	second.WaitFor("Herald runs already: " + base + "/")
	<-second.Done()
	u.has("opened", base+"/admin/\n"+base+"/")
	shown.choose("Open")
	u.has("opened", base+"/admin/\n"+base+"/admin/\n"+base+"/admin/\n")

	u.has(".local/share/herald/herald.log", "msg=ready")
	shown.choose("Quit")
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		t.Errorf("a minute after Quit it still runs:\n%s", p.Output())
	}
	if strings.Contains(u.has(".local/share/herald/herald.log", "msg=stopping"), strings.TrimSpace(key)) {
		t.Error("the log has the API key")
	}
}

// Without a panel, or without a bus, Herald says so once, serves, and opens the
// browser; with -headless it says and opens nothing.
func TestNoTray(t *testing.T) {
	for name, c := range map[string]struct {
		bus      string
		headless bool
		says     string
	}{
		"no panel":  {bus: bus(t), says: "no panel here shows icons"},
		"no bus":    {says: "there is no session bus"},
		"dead bus":  {bus: "unix:path=/nonexistent/bus", says: "the session bus does not answer"},
		"-headless": {bus: bus(t), headless: true},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, c.bus)
			args := []string{"desktop", "-listen", "127.0.0.1:" + proctest.FreePort(t), "-ops-listen", "127.0.0.1:" + proctest.FreePort(t)}
			if c.headless {
				args = append(args, "-headless")
			}
			p := start(t, "allinone", u.home, u.env, args...)
			p.WaitFor("msg=ready")
			if !c.headless {
				u.has("opened", "/admin/")
				p.WaitFor(c.says)
			}
			p.Stop(30 * time.Second)
			if n := strings.Count(p.Output(), "no tray icon"); n > 1 || c.headless && n != 0 {
				t.Errorf("it says %d times that there is no tray:\n%s", n, p.Output())
			}
			if _, err := os.Stat(filepath.Join(u.home, "opened")); c.headless && err == nil {
				t.Error("-headless opened the browser")
			}
			u.has(".local/share/herald/herald.log", "msg=ready")
		})
	}
}

// A double click starts the desktop. A start that somebody reads, or beside the
// data of a Herald that was started there before, does not.
func TestDoubleClick(t *testing.T) {
	address := bus(t)
	panel := newPanel(t, address)
	binary := proctest.Build(t, module+"services/allinone")
	for name, c := range map[string]struct {
		output  bool // is read by somebody
		before  bool // there is a data folder
		display string
		desktop bool
	}{
		"double click":        {display: ":0", desktop: true},
		"a supervisor's pipe": {display: ":0", output: true},
		"data is here":        {display: ":0", before: true},
		"no display":          {},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, address)
			port := proctest.FreePort(t)
			files := map[string]string{"config/socket_config.json": fmt.Sprintf(`{"listen": "127.0.0.1:%s", "ops-listen": "127.0.0.1:%s"}`, port, proctest.FreePort(t))}
			if c.before {
				files["data/herald.lock"] = ""
			}
			for name, content := range files {
				path := filepath.Join(u.home, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(binary)
			cmd.Dir, cmd.SysProcAttr = u.home, &syscall.SysProcAttr{Setsid: true} // no terminal
			for _, v := range append(append(os.Environ(), u.env...), "DISPLAY="+c.display) {
				if !strings.HasPrefix(v, "HERALD_") {
					cmd.Env = append(cmd.Env, v)
				}
			}
			if c.output {
				cmd.Stdout = &strings.Builder{}
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			t.Cleanup(func() {
				if !ended {
					_ = cmd.Process.Kill()
					_ = cmd.Wait() // killed
				}
			})
			proctest.Ready(t, "http://127.0.0.1:"+port)
			if c.desktop {
				panel.icon().choose("Quit")
			} else if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if ended = true; err != nil {
				t.Errorf("it ended with %v", err)
			}
			data := map[bool]string{true: ".local/share/herald", false: "data"}
			for desktop, folder := range data {
				if _, err := os.Stat(filepath.Join(u.home, folder, "nats")); (err == nil) != (desktop == c.desktop) {
					t.Errorf("data in %s: %v; desktop %t", folder, err, c.desktop)
				}
			}
		})
	}
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
