package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/allinone/internal/desktop"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/web"
	"github.com/nats-io/nats.go/jetstream"
)

// windowed is set by the linker in the build for Windows that has no console: it
// is herald desktop where no command is named.
var windowed string

var desktopCommand = command{
	name: "desktop", does: "run everything, with an icon in the tray, and open it in the browser",
	about: `
Runs all of Herald as herald does, for a person at a desktop: it opens the console in the browser and shows an icon
in the tray, with the state and a menu. Data is where this system keeps data of programs, unless -data names a
folder. If Herald runs already, it opens that one. A double click does the same; -headless shows nothing.`,
	examples: []string{
		"herald desktop",
		"herald desktop -listen localhost:5000",
	},
	start: func(c *call) task {
		cfg := defaultConfig()
		var fault error
		cfg.Data, fault = desktop.Folder()
		t := task{}
		notes := cfg.read(c, &t)
		t.run = func(ctx context.Context, words []string) error {
			if len(words) > 0 {
				return fmt.Errorf("desktop takes no arguments, only settings: %q", words)
			}
			if cfg.Data == "" {
				return fmt.Errorf("data folder: %w", fault)
			}
			if err := cfg.complete(); err != nil {
				return err
			}
			return (&desk{cfg: cfg, table: t.settings, notes: notes, call: c}).run(ctx)
		}
		return t
	},
}

// launchedAsDesktop reports whether a start without a command means herald
// desktop: of the windowed build, or by a double click of somebody who has not set
// Herald up in another way, by a variable or a data folder that is there.
func launchedAsDesktop(args, environ []string) bool {
	if windowed != "" {
		return len(args) == 0 || strings.HasPrefix(args[0], "-") && !isHelp(args[0]) &&
			strings.TrimLeft(args[0], "-") != "version"
	}
	_, err := os.Stat(filepath.Join("data", "herald.lock"))
	ours := func(v string) bool { return strings.HasPrefix(v, "HERALD_") }
	return len(args) == 0 && err != nil && !slices.ContainsFunc(environ, ours) && desktop.Launched()
}

// retryServing is how long the tray shows why Herald does not serve before it
// tries again.
const retryServing = 3 * time.Second

// desk is Herald with a person before it.
type desk struct {
	// Fixed after start.
	cfg   Config
	table []config.Setting
	notes []string
	call  *call
	tray  *desktop.Tray // nil: none

	serving atomic.Pointer[serving] // nil: it does not serve
	opened  sync.Once               // the browser, at the first time
	keys    sync.Mutex              // held while the key of the desktop is made
}

// serving is a Herald that is ready.
type serving struct {
	greeting *greeting
	broker   *broker
}

// run serves until ctx ends or somebody chooses Quit. It is called where main
// runs, which is where a tray must be.
func (d *desk) run(ctx context.Context) error {
	if page := running(ctx, d.cfg); page != "" {
		fmt.Fprintf(d.call.std.out, "Herald runs already: %s\n", page)
		return d.open(page)
	}
	closeLog, unkept := keepOutput(d.call, d.cfg.Data)
	if unkept == nil {
		defer closeLog()
	}
	d.call.ready = d.ready
	noTray := desktop.TrayFault()
	switch {
	case unkept != nil && (d.cfg.Headless || noTray != nil):
		return unkept
	case unkept != nil: // the tray says it as well, since perhaps nobody reads standard error
		fmt.Fprintf(d.call.std.err, "herald: %v\n", unkept)
	case d.cfg.Headless:
		return d.serve(ctx)
	case noTray != nil:
		fmt.Fprintf(d.call.std.err, "herald: %v; Herald goes on without\n", noTray)
		return d.serve(ctx)
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	icon, err := d.icon()
	if err != nil {
		return err
	}
	d.tray = desktop.NewTray("Herald", icon, []desktop.Item{
		{Title: "Open", Do: d.do(func(s *serving) (string, error) { return "", d.open(s.greeting.page()) })},
		{Title: "Copy API key", Do: d.do(d.copyKey)},
		{Title: "Copy console password", Do: d.do(d.copyPassword)},
		{Title: "Send a test message", Do: d.do(d.sendTest)},
		{Title: "Quit", Do: func() { d.tray.Say("stopping"); quit() }},
	})
	ended := make(chan error, 1)
	go func() { // Run, below, returns after Close; ended is read after that
		ended <- d.serve(ctx)
		d.tray.Close()
	}()
	d.tray.Run()
	return <-ended
}

// icon is the favicon that Herald shows in browsers: the user's own, or that of
// the binary.
func (d *desk) icon() ([]byte, error) {
	for _, own := range []string{"favicon.ico", "config/favicon.ico"} {
		if b, err := os.ReadFile(own); err == nil {
			return b, nil
		}
	}
	return fs.ReadFile(web.FS, "favicon.ico")
}

// serve serves until ctx ends. With a tray it shows why it cannot, and tries
// again; without, that is an error.
func (d *desk) serve(ctx context.Context) error {
	var told string
	for {
		d.say("starting")
		err := serve(ctx, d.cfg, d.table, d.notes, d.call)
		d.serving.Store(nil)
		if err == nil || ctx.Err() != nil || d.tray == nil {
			return err
		}
		if page := running(ctx, d.cfg); page != "" { // it was started at the same moment
			return d.open(page)
		}
		if errors.Is(err, errDataInUse) {
			return err
		}
		state := "not serving: " + err.Error()
		if httpx.PortTaken(err) {
			state = fmt.Sprintf("port taken: another program has %s", d.cfg.Listen)
		}
		if d.say(state); state != told {
			told = state
			fmt.Fprintf(d.call.std.err, "herald: %v; trying again every %s\n", err, retryServing)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryServing):
		}
	}
}

// ready is called each time Herald has begun to serve.
func (d *desk) ready(g *greeting, b *broker) {
	d.serving.Store(&serving{g, b})
	d.say("serving on " + g.page())
	if d.cfg.Headless {
		return
	}
	d.opened.Do(func() {
		if err := d.open(g.page()); err != nil {
			fmt.Fprintf(d.call.std.err, "herald: %v\n", err)
		}
	})
}

func (d *desk) open(page string) error {
	if d.cfg.Headless {
		return nil
	}
	if err := desktop.Open(page); err != nil {
		return fmt.Errorf("no browser can be opened (%w); open %s", err, page)
	}
	return nil
}

func (d *desk) say(state string) {
	if d.tray != nil {
		d.tray.Say(state)
	}
}

// do is a choice in the menu, whose outcome is shown as the state.
func (d *desk) do(action func(*serving) (done string, err error)) func() {
	return func() {
		s := d.serving.Load()
		if s == nil {
			return // the state says why
		}
		done, err := action(s)
		if err != nil {
			done = err.Error()
			fmt.Fprintf(d.call.std.err, "herald: %v\n", err)
		}
		if done != "" {
			d.say(done + "; serving on " + s.greeting.page())
		}
	}
}

func (d *desk) copyKey(s *serving) (string, error) {
	key, err := d.key(s)
	if err != nil {
		return "", err
	}
	if err := desktop.Copy(key); err != nil {
		return "", fmt.Errorf("%w; the key is in %s", err, d.keyFile())
	}
	return "the API key is in the clipboard", nil
}

func (d *desk) copyPassword(s *serving) (string, error) {
	if s.greeting.firstPassword == "" {
		return "", errors.New("only the first start knew the console's password; herald users makes another")
	}
	if err := desktop.Copy(s.greeting.firstPassword); err != nil {
		return "", err
	}
	return "the password of " + s.greeting.firstUser + " is in the clipboard", nil
}

func (d *desk) sendTest(s *serving) (string, error) {
	key, err := d.key(s)
	if err != nil {
		return "", err
	}
	scheme := s.greeting.scheme()
	at, _ := s.greeting.reach(scheme)
	c := client{URL: scheme + "://" + at, CA: s.greeting.cfg.Gateway.CertFile, Key: key}
	browser, err := c.web()
	if err != nil {
		return "", err
	}
	httpx.DialReach(browser.Transport.(*http.Transport), s.greeting.addr.String())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text := "A test message from the desktop, " + time.Now().Format(time.TimeOnly)
	resp, err := c.do(ctx, http.MethodPost, "/v1/channels/"+proto.Broadcast, nil, "text/plain; charset=utf-8",
		[]byte(text))
	if err != nil {
		return "", err
	}
	return "a test message was sent", resp.Body.Close()
}

// keyFile has the API key of the desktop, readable by its owner only.
func (d *desk) keyFile() string { return filepath.Join(d.cfg.Data, "desktop.key") }

// key is the API key of the desktop: it may publish. It is made when it is first
// wanted, and anew if somebody has revoked it.
func (d *desk) key(s *serving) (string, error) {
	d.keys.Lock() // held over I/O: a second click waits for the key of the first
	defer d.keys.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	nc, err := s.broker.connect("herald-desktop", s.broker.log)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", err
	}
	store, err := keystore.Open(ctx, js)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(d.keyFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if secret := strings.TrimSpace(string(b)); secret != "" {
		k, stored, err := store.Environment(ctx, secret, time.Now())
		if err != nil || stored && (k.Expires.IsZero() || k.Expires.After(time.Now())) {
			return secret, err
		}
	}
	secret, _, err := store.Add(ctx, "desktop", keystore.Options{Channels: []string{">"},
		May: []auth.Scope{auth.Publish}}, time.Now())
	if err != nil {
		return "", err
	}
	return secret, os.WriteFile(d.keyFile(), []byte(secret+"\n"), 0o600)
}

// runningPage is the page of the Herald that has the port of these settings; empty:
// there is none.
func runningPage(ctx context.Context, cfg Config) string {
	ctx, cancel := context.WithTimeout(ctx, portWithin)
	defer cancel()
	page := url.URL{Scheme: "http", Host: httpx.Reach(cfg.Listen), Path: "/openapi.json"}
	if cfg.Gateway.CertFile != "" {
		page.Scheme = "https"
	}
	c := client{CA: cfg.Gateway.CertFile}
	browser, err := c.web()
	if err != nil {
		return ""
	}
	if name := certifiedName(cfg.Gateway.CertFile, "localhost"); name != "" {
		page.Host = name + page.Host[strings.LastIndex(page.Host, ":"):]
	}
	httpx.DialReach(browser.Transport.(*http.Transport), cfg.Listen)
	defer browser.CloseIdleConnections()
	get := func(path string) (*http.Response, error) {
		page.Path = path
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page.String(), nil)
		if err != nil {
			return nil, err
		}
		return browser.Do(req)
	}
	resp, err := get("/openapi.json")
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	var api struct{ Info struct{ Title string } }
	if json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(&api) != nil ||
		!strings.HasPrefix(api.Info.Title, "Herald") {
		return ""
	}
	if console, err := get(consolePath); err == nil {
		if _ = console.Body.Close(); console.StatusCode < 400 {
			return page.String()
		}
	}
	page.Path = "/"
	return page.String()
}

// consolePath is where the console is.
const consolePath = "/admin/"

// page is what a browser on this machine opens first.
func (g *greeting) page() string {
	scheme := g.scheme()
	at, _ := g.reach(scheme)
	if g.cfg.Admin.Console == admin.Off {
		return scheme + "://" + at + "/"
	}
	return scheme + "://" + at + consolePath
}
