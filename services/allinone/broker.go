package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// dataFolder is the folder that one Herald at a time owns.
type dataFolder struct {
	path string
	lock *flock.Flock
}

// errDataInUse is that of a folder which is locked.
var errDataInUse = errors.New("another Herald uses it")

// openData makes the folder if it is missing and locks it.
func openData(path string) (*dataFolder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil { // it holds secrets and everybody's messages
		return nil, fmt.Errorf("data folder: %w", config.Denied(filepath.Dir(path), err))
	}
	d := &dataFolder{path: path, lock: flock.New(filepath.Join(path, "herald.lock"))}
	ok, err := d.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("data folder %s: lock it: %w", path, config.Denied(path, err))
	}
	if !ok {
		return nil, dataInUse(path)
	}
	return d, nil
}

func (d *dataFolder) close() { _ = d.lock.Unlock() } // the lock ends with the process at the latest

// inUse reports whether a Herald runs on the data folder. It looks only if
// there is a lock file: one that starts at this moment must not find it taken.
func inUse(path string) bool {
	name := filepath.Join(path, "herald.lock")
	if _, err := os.Stat(name); err != nil {
		return false
	}
	lock := flock.New(name)
	defer func() { _ = lock.Close() }() // it held nothing that counts
	free, err := lock.TryRLock()
	return err == nil && !free
}

// address is how the commands of this machine find the Herald that runs here
// and its embedded NATS: nats.json in the data folder, readable by its owner
// only.
type address struct {
	URL   string `json:"url"`   // with a password made for this run; empty: NATS is elsewhere
	Files uint64 `json:"files"` // that the process may open; 0: unknown
}

// readAddress is what the Herald that runs on the data folder wrote down.
func readAddress(data string) (a address, err error) {
	b, err := os.ReadFile(addressFile(data))
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%s: %w", addressFile(data), err)
	}
	return a, nil
}

func addressFile(data string) string { return filepath.Join(data, "nats.json") }

// errNotRunning: no Herald runs on this data folder.
var errNotRunning = errors.New("no Herald runs here")

// findNATS is where a command connects: where it was told, or to the Herald
// that runs on the data folder.
func findNATS(cfg Config) (natsx.Config, error) {
	if cfg.NATS.URL != "" {
		elsewhere := cfg.NATS
		elsewhere.Name = "herald-cli"
		return elsewhere, nil
	}
	a, err := readAddress(cfg.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return natsx.Config{},
			fmt.Errorf("%w: there is no %s; start herald, name its folder with -data, or a NATS with -nats",
				errNotRunning, addressFile(cfg.Data))
	case err != nil:
		return natsx.Config{}, fmt.Errorf("find the embedded NATS: %w", err)
	case a.URL == "":
		return natsx.Config{}, fmt.Errorf("the Herald of %s uses a NATS elsewhere: name it with -nats, as it "+
			"was named there", cfg.Data)
	}
	return natsx.Config{URL: a.URL, Name: "herald-cli"}, nil
}

// dialNATS connects to NATS for a command: Ctrl-C ends the attempt, and the connection. The caller closes it.
func dialNATS(ctx context.Context, where natsx.Config) (*nats.Conn, error) {
	return natsx.Connect(where, slog.New(slog.DiscardHandler), nats.SetCustomDialer(commandDialer{ctx}))
}

// commandDialer opens connections that end with ctx.
type commandDialer struct{ ctx context.Context }

// Dial makes it a nats.CustomDialer.
func (d commandDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(d.ctx, network, address)
	if err == nil {
		context.AfterFunc(d.ctx, func() { _ = conn.Close() }) // closed twice at worst
	}
	return conn, err
}

// onNATS calls do with the JetStream that findNATS finds. ctx of do is bounded.
func onNATS(ctx context.Context, cfg Config, do func(context.Context, jetstream.JetStream) error) error {
	where, err := findNATS(cfg)
	if err != nil {
		return err
	}
	nc, err := dialNATS(ctx, where)
	if cause := interrupted(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		if cfg.NATS.URL == "" {
			return fmt.Errorf("%w: the Herald of %s does not answer; start it", errNotRunning, cfg.Data)
		}
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	return do(ctx, js)
}

// broker is NATS as the services see it: embedded or elsewhere.
type broker struct {
	log       *slog.Logger
	elsewhere natsx.Config
	embedded  *natsd.Server // nil: elsewhere
	file      string
	closers   []func()
}

// startBroker starts the embedded NATS, unless one elsewhere is named. With a
// full disk it returns one that starts, or stores, once there is room.
func startBroker(cfg Config, d *dataFolder, log *slog.Logger) (*broker, error) {
	b := &broker{log: log, elsewhere: cfg.NATS, file: addressFile(d.path)}
	files, _ := httpx.OpenFilesLimit() // 0 where there is none
	if b.elsewhere.URL != "" {
		return b, writeAddress(b.file, address{Files: files})
	}
	if r, err := roomFor(cfg); err == nil && r.short() {
		log.Warn("the disk has no room for all that the stream may keep; publishing answers 503 when it is full",
			"dir", cfg.Data, "free", mebibytes(r.free), "stored", mebibytes(r.stored), "stream-max-bytes",
			mebibytes(r.limit))
	}
	password := rand.Text()
	var err error
	b.embedded, err = natsd.Start(natsd.Config{
		Dir: natsFolder(d.path), Port: -1, User: "herald", Password: password, SyncInterval: time.Duration(cfg.Sync),
		Listening: func(at string) error {
			u, err := url.Parse(at)
			if err != nil {
				return fmt.Errorf("embedded NATS: %w", err)
			}
			u.User = url.UserPassword("herald", password)
			return writeAddress(b.file, address{URL: u.String(), Files: files})
		},
	}, log)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func writeAddress(path string, a address) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a file that somebody else may read must not get the password
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		_ = os.Remove(path) // half a file leads to a less clear error than none
		return fmt.Errorf("write down where the embedded NATS listens: %w", err)
	}
	return nil
}

// connect gives a service its own connection. A NATS elsewhere may be away
// then: Herald answers all the same, alive and not ready.
func (b *broker) connect(name string, log *slog.Logger) (*nats.Conn, error) {
	if b.embedded == nil {
		cfg := b.elsewhere
		cfg.Name = name
		return natsx.Attach(cfg, log)
	}
	return natsx.Attach(natsx.Config{Name: name}, log, b.embedded.InProcess())
}

// stores is the embedded NATS's own word whether it can store; nil if NATS is
// elsewhere, which ingest asks itself.
func (b *broker) stores() func() error {
	if b.embedded == nil {
		return nil
	}
	return b.embedded.Fault
}

// prepare declares the embedded stream and key bucket before the services
// start, so that none has to wait for another. Elsewhere it makes the bucket alone,
// if NATS answers. Ingest does what is left, also here while nothing can be stored.
func (b *broker) prepare(ctx context.Context, cfg Config) error {
	if b.embedded == nil {
		b.makeKeys(ctx, cfg)
		return nil
	}
	if b.embedded.Fault() != nil {
		return nil
	}
	err := b.declare(ctx, cfg)
	if err == nil {
		return nil
	}
	if hindrance := b.embedded.Hindrance(); hindrance != nil {
		b.log.Warn("the stream cannot be declared yet; ingest tries again", "err", err)
		return nil
	}
	return err
}

// makeKeys makes the key bucket in a NATS elsewhere, as ingest would a moment later.
func (b *broker) makeKeys(ctx context.Context, cfg Config) {
	nc, err := b.connect("herald-start", slog.New(slog.DiscardHandler))
	if err != nil {
		return // the services' own connections log that
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil || !nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a start does not wait long for a NATS that hangs
	defer cancel()
	_, _ = keystore.Make(ctx, js, cfg.Ingest.Replicas) // ingest tries again, and logs
}

func (b *broker) declare(ctx context.Context, cfg Config) error {
	nc, err := b.connect("herald-start", b.log)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stream := natsx.StreamConfig{MaxAge: cfg.Ingest.StreamMaxAge, MaxBytes: cfg.Ingest.StreamMaxBytes, Replicas: 1}
	// ingest sees to those
	if _, err := natsx.EnsureStream(ctx, js, stream); err != nil && !errors.Is(err, natsx.ErrLimitsKept) {
		return err
	}
	_, err = keystore.Make(ctx, js, 1)
	return err
}

// keyNames are the names of the stored API keys, for a person to see; none
// where they cannot be read. env says what the key secret is where it is, or was,
// a stored one; it is empty where the secret is none of these.
func (b *broker) keyNames(ctx context.Context, secret string) (names []string, env string) {
	nc, err := b.connect("herald-start", b.log)
	if err != nil {
		return nil, ""
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, ""
	}
	store, err := keystore.Open(ctx, js)
	if err != nil {
		return nil, ""
	}
	list, err := store.List(ctx)
	if err != nil {
		return nil, ""
	}
	for _, k := range list {
		if !slices.Contains(names, k.Name) && (k.Expires.IsZero() || k.Expires.After(time.Now())) {
			names = append(names, k.Name)
		}
	}
	if secret == "" {
		return names, ""
	}
	k, stored, err := store.Environment(ctx, secret, time.Now())
	if err != nil || !stored {
		return names, ""
	}
	i := slices.IndexFunc(list, func(of keystore.Info) bool { return of.ID == k.ID })
	if i < 0 {
		return names, "it was revoked with herald keys, and opens nothing"
	}
	return names, fmt.Sprintf("it is the stored key %s, and its messages have that sender", list[i].Name)
}

// onClose adds what close does first.
func (b *broker) onClose(f func()) { b.closers = append(b.closers, f) }

func (b *broker) close() {
	for _, f := range b.closers {
		f()
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
	}
	if b.file != "" {
		_ = os.Remove(b.file) // a stale one only leads to a clear error
	}
}
