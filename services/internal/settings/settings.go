// Package settings changes settings of a process while it runs: an administrator stores
// values in JetStream KV, and every process watches them.
//
// A stored value wins over environment, file and default; a flag wins over a stored
// value. A stored value that is malformed, or that a rule of the service refuses, changes
// nothing, and Describe says why. The
// bucket herald_settings holds "set.<flag>" with the value as on the command line.
package settings

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is the KV bucket's name.
const Bucket = "herald_settings"

const prefix = "set."

// Errors of Check. What a rule of a service refuses is an error with the rule's text.
var (
	ErrUnknown = errors.New("there is no such setting")
	ErrFixed   = errors.New("it is read when Herald starts, and changes with a restart only")
	ErrLocked  = errors.New(
		"a flag on the command line wins over the console; start Herald without it to change the setting here")
)

// Part is what one service has to do with settings that change while it runs.
type Part struct {
	service string
	names   []string // by flag
	// try reads values on top of those that the process began with, and checks the whole. apply puts it into effect.
	try func(values map[string]string) (apply func(), err error)
}

// Of makes a Part of a service's configuration: began is what the process began
// with, table declares its settings, check is its own rules, and names are the flags
// of the settings that may change. apply is called with a whole configuration, one
// call at a time, while Live holds its lock: it must neither block nor call Live.
func Of[C any](service string, began C, table func(*C) []config.Setting, check func(*C) error, apply func(C),
	names ...string) Part {
	return Part{service: service, names: names, try: func(values map[string]string) (func(), error) {
		next := began
		for _, s := range table(&next) {
			v, changed := values[s.Flag]
			if !changed || s.Flag == "" {
				continue
			}
			if err := config.Assign(s, v); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", s.Flag, v, err)
			}
		}
		if err := check(&next); err != nil {
			return nil, err
		}
		return func() { apply(next) }, nil
	}}
}

// Live are the settings of one process. Safe for concurrent use. A nil *Live has no
// settings that change.
type Live struct {
	table  []config.Setting // as the process began
	began  map[string]string
	log    *slog.Logger
	loaded chan struct{} // closed once the values that were stored at the start are in effect

	mu     sync.Mutex
	remake int               // guarded by mu; replicas, see Remake; 0: another process's
	parts  []*part           // guarded by mu
	stored map[string]string // guarded by mu; by flag
	acting map[string]string // guarded by mu; of stored what acts
	faults map[string]string // guarded by mu; of stored what does not, and why
}

type part struct {
	Part
	acting map[string]string // of its names
}

// New makes the live settings of a process whose settings config.Parse has read.
func New(table []config.Setting, log *slog.Logger) *Live {
	l := &Live{table: table, began: map[string]string{}, log: log, loaded: make(chan struct{}),
		stored: map[string]string{}}
	for _, s := range table {
		l.began[s.Flag] = text(s)
	}
	return l
}

// Add adds a service. What is stored acts on it at once.
func (l *Live) Add(p Part) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts = append(l.parts, &part{Part: p})
	l.settle()
}

// Remake has this process make the bucket anew, with this many replicas and what is stored now, where somebody
// deletes it while Run follows it: else a setting that closes something would be open again. It is called before
// Run; only ingest does.
func (l *Live) Remake(replicas int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remake = max(1, replicas)
}

// Await waits until the values that are stored at the start are applied, for at most
// patience: NATS may be away, or nobody has made the bucket.
func (l *Live) Await(ctx context.Context, patience time.Duration) {
	if l == nil {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-l.loaded:
	case <-t.C:
	case <-ctx.Done():
	}
}

// openEvery is how often the bucket is looked for until ingest has made it.
const openEvery = 500 * time.Millisecond

// Run follows the bucket, and answers the console, until ctx ends.
func (l *Live) Run(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	answered := make(chan error, 1)
	go func() { answered <- l.answer(ctx, nc) }() // ends with ctx
	l.follow(ctx, nc, js)
	return <-answered
}

func (l *Live) follow(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) {
	again := retry.Policy{
		Pause: openEvery,
		Where: nc.IsConnected,
		Log: func(err error) {
			if !errors.Is(err, bucket.ErrNone) {
				l.log.Warn("settings of the console cannot be followed yet; trying again", "err", err)
			}
		},
	}
	l.mu.Lock()
	replicas := l.remake
	l.mu.Unlock()
	var remake func(context.Context) error
	if replicas > 0 {
		remake = func(ctx context.Context) error {
			_, err := Make(ctx, js, replicas)
			return err
		}
	}
	again.Forever(ctx, func(ctx context.Context) error {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		kv, err := bucket.Open(ask, js, Bucket)
		if err != nil {
			return err
		}
		f := bucket.Follower{
			Prefix: prefix, What: "setting", Gone: "is no longer changed", Log: l.log,
			Put:    func(name string, value []byte) (string, error) { l.put(name, string(value)); return name, nil },
			Remove: l.remove,
			Ready:  sync.OnceFunc(l.ready),
			Make:   remake,
		}
		return f.Follow(ctx, nc, kv)
	})
}

// askTimeout bounds one question to JetStream.
const askTimeout = 5 * time.Second

func (l *Live) ready() {
	select {
	case <-l.loaded:
	default:
		close(l.loaded)
	}
}

func (l *Live) put(name, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored[name] = value
	l.settle()
	if fault := l.faults[name]; fault != "" {
		l.log.Warn("a setting of the console does not act", "setting", name, "err", fault)
	}
}

func (l *Live) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stored, name)
	l.settle()
}

// settle applies those of the stored values that all services accept. mu is held.
func (l *Live) settle() {
	l.acting, l.faults = l.agree(l.stored)
	for _, p := range l.parts {
		mine := p.of(l.acting)
		if maps.Equal(mine, p.acting) {
			continue
		}
		if apply, err := p.try(mine); err == nil { // agree has tried it
			p.acting = mine
			apply()
		}
	}
}

// agree divides values into those that all services accept and the others, with the reason.
// A value may be possible only beside another one, so those that are refused are
// tried again after each that is accepted. mu is held.
func (l *Live) agree(values map[string]string) (acting, faults map[string]string) {
	acting, faults = map[string]string{}, map[string]string{}
	names := slices.Sorted(maps.Keys(values))
	for progress := true; progress; {
		progress = false
		for _, name := range names {
			if _, done := acting[name]; done {
				continue
			}
			if err := l.tried(acting, name, values[name]); err != nil {
				faults[name] = err.Error()
				continue
			}
			acting[name] = values[name]
			delete(faults, name)
			progress = true
		}
	}
	return acting, faults
}

// tried says why a value cannot act beside others; nil: it can. mu is held.
func (l *Live) tried(beside map[string]string, name, value string) error {
	i := slices.IndexFunc(l.table, func(s config.Setting) bool { return s.Flag == name && name != "" })
	if i < 0 {
		return ErrUnknown
	}
	if !slices.ContainsFunc(l.parts, func(p *part) bool { return slices.Contains(p.names, name) }) {
		return ErrFixed
	}
	if l.table[i].From == config.FromFlag {
		return ErrLocked
	}
	with := maps.Clone(beside)
	with[name] = value
	for _, p := range l.parts {
		if !slices.Contains(p.names, name) {
			continue
		}
		if _, err := p.try(p.of(with)); err != nil {
			return err
		}
	}
	return nil
}

func (p *part) of(values map[string]string) map[string]string {
	mine := map[string]string{}
	for _, name := range p.names {
		if v, ok := values[name]; ok {
			mine[name] = v
		}
	}
	return mine
}

// Check says why a value would not act if it were stored; nil: it would.
func (l *Live) Check(name, value string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := maps.Clone(l.acting)
	delete(others, name)
	return l.tried(others, name, value)
}

// text is a value as on the command line.
func text(s config.Setting) string {
	v := s.Default()
	if _, ok := s.Into.(*bool); ok && v == "" {
		return "false"
	}
	return strings.TrimSpace(v)
}
