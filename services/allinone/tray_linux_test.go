package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/proctest"
)

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
	if shown.property("IconPixmap", &pictures); len(pictures) != 1 || pictures[0].Width < 32 ||
		len(pictures[0].Pixels) != int(pictures[0].Width*pictures[0].Height*4) {
		t.Errorf("the icon is %v", pictures)
	}
	labels, _ := shown.menu()
	if want := []string{"Open", "Copy API key", "Copy console password", "Send a test message",
		"Quit"}; !slices.Equal(labels[1:], want) {
		t.Errorf("got the menu %q, want %q", labels, want)
	}

	shown.does("Copy API key", "the API key is in the clipboard")
	key := u.has("clipboard", "")
	if status, answer := proctest.Post(t, base+"/v1/channels/broadcast", key, "text/plain",
		"by the copied key"); status != 200 {
		t.Errorf("the copied key: %d %s", status, answer)
	}
	if status, _ := proctest.Post(t, base+"/v1/channels/broadcast", key+"x", "text/plain",
		"by another"); status != 401 {
		t.Errorf("another key: %d, want 401", status)
	}
	shown.does("Copy console password", "the password of admin is in the clipboard")
	if password := u.has("clipboard", ""); password == key ||
		!strings.Contains(u.has(".local/share/herald/greeting.txt", "password"), password) {
		t.Errorf("the copied password is %q, and not that of the greeting", password)
	}
	listener := start(t, "allinone", u.home, u.env, "listen", "-since", "all", "-url", base)
	listener.WaitFor("by the copied key")
	shown.choose("Send a test message")
	listener.WaitFor("A test message from the desktop")
	listener.Kill()
	shown.does("Copy API key", "the API key is in the clipboard")
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
			args := []string{"desktop", "-listen", "127.0.0.1:" + proctest.FreePort(t), "-ops-listen", "127.0.0.1:" +
				proctest.FreePort(t)}
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

// Where data cannot be kept, the tray says so until it can.
func TestTrayWithoutData(t *testing.T) {
	address := bus(t)
	panel := newPanel(t, address)
	u := newUser(t, address)
	file := filepath.Join(u.home, "data")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	base := "127.0.0.1:" + proctest.FreePort(t)
	p := start(t, "allinone", u.home, u.env, "desktop", "-data", file, "-listen", base, "-ops-listen",
		"127.0.0.1:"+proctest.FreePort(t))
	shown := panel.icon()
	shown.shows("not serving: data folder: mkdir " + file + ": not a directory")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	shown.shows("serving on http://" + base + "/admin/")
	shown.choose("Quit")
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		t.Errorf("a minute after Quit it still runs:\n%s", p.Output())
	}
}

// A browser that stays, since the program that opens pages waits for it, keeps nobody
// from stopping Herald.
func TestBrowserThatStays(t *testing.T) {
	u := newUser(t, "")
	script := "#!/bin/sh\necho \"$1\" >" + u.home + "/opened\n" +
		"while [ -e " + u.home + "/opened ]; do sleep 0.1; done\n" +
		"echo >" + u.home + "/closed\n"
	if err := os.WriteFile(filepath.Join(u.home, "bin", "xdg-open"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, "allinone", u.home, u.env, "desktop", "-listen", "127.0.0.1:"+proctest.FreePort(t), "-ops-listen",
		"127.0.0.1:"+proctest.FreePort(t))
	page := u.has("opened", "/admin/")
	p.Stop(30 * time.Second)
	if !strings.Contains(p.Output(), "msg=stopping") {
		t.Errorf("it did not stop by itself, with %s open:\n%s", page, p.Output())
	}
	if err := os.Remove(filepath.Join(u.home, "opened")); err != nil {
		t.Fatal(err)
	}
	u.has("closed", "\n") // the browser was still there
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
			settings := fmt.Sprintf(`{"listen": "127.0.0.1:%s", "ops-listen": "127.0.0.1:%s"}`, port,
				proctest.FreePort(t))
			files := map[string]string{"config/socket_config.json": settings}
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
