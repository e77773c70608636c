package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/chanindex"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/logger"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patient is what the doctor looks at: one deployment, seen from this machine.
type patient struct {
	cfg     Config
	out     io.Writer
	ctx     context.Context // of the command: once Ctrl-C has ended it, what then breaks off is no finding
	running bool            // a Herald answers on the port
	ill     int             // findings that need a person
}

func (p *patient) fine(format string, args ...any) {
	if p.ctx.Err() != nil {
		return
	}
	fmt.Fprintf(p.out, "ok    "+format+"\n", args...)
}

// wrong says what is wrong and what to do about it.
func (p *patient) wrong(remedy, format string, args ...any) {
	if p.ctx.Err() != nil {
		return
	}
	p.ill++
	fmt.Fprintf(p.out, "WRONG "+format+"\n      "+remedy+"\n", args...)
}

// warn says what will be wrong one day, and what to do about it. It is no
// finding: Herald runs.
func (p *patient) warn(remedy, format string, args ...any) {
	if p.ctx.Err() != nil {
		return
	}
	fmt.Fprintf(p.out, "warn  "+format+"\n      "+remedy+"\n", args...)
}

var doctorCommand = command{
	name: "doctor", does: "find out what is wrong, and what to do about it",
	about: `
Checks everything that keeps the Herald of this machine from running: settings, certificate, port, data folder,
disk, open files, NATS, keys, the log. It takes the settings of serve, changes nothing, and exits with 1 if
something is wrong. With -url it looks at a public address instead, through whatever proxies stand before it:
WebSocket, SSE, buffering, idle connections. With -services it looks at a deployment in parts: NATS, and every
process behind those operators' addresses.`,
	examples: []string{
		"herald doctor",
		"herald doctor -data /var/lib/herald",
		"herald doctor -nats nats://nats:4222 -services http://ingest:9090,http://gateway:9090,http://logger:9090",
		"herald doctor -url https://push.example.com    # through its proxy; with HERALD_API_KEY it sends a " +
			"message, too",
	},
	start: func(c *call) task {
		p := &patient{cfg: defaultConfig(), out: c.std.out, ctx: context.Background()}
		probe := &outside{patient: p, idle: 75 * time.Second}
		services := ""
		t := task{refused: p.unreadable, settings: []config.Setting{
			{Flag: "services", Env: "HERALD_SERVICES",
				Help: "operators' addresses of a deployment in parts, such as http://ingest:9090,http://gateway:9090",
				Into: &services},
			{Flag: "url", Help: "a public address to look at from outside, such as https://push.example.com",
				Into: &probe.URL},
			{Flag: "ca", Env: "HERALD_CA",
				Help: "for -url: file of the authorities (PEM) that may sign its certificate, in place of the system's",
				Into: &probe.CA},
			{Flag: "idle", Help: "for -url: for how long idle connections are watched; many proxies end them after 60s",
				Into: &probe.idle},
		}}
		notes := p.cfg.read(c, &t)
		t.run = func(ctx context.Context, words []string) error {
			if len(words) > 0 {
				return fmt.Errorf("doctor takes no arguments, only settings: %q", words)
			}
			p.ctx = ctx
			var err error
			switch {
			case probe.URL != "":
				probe.Key = p.cfg.Ingest.APIKey
				err = probe.examine(ctx)
			case services != "":
				err = p.examineServices(ctx, services, c.env.Get("HERALD_URL"))
			default:
				if err := p.cfg.complete(); err != nil {
					return p.unreadable(err)
				}
				err = p.examine(ctx, notes)
			}
			if cause := interrupted(ctx); cause != nil {
				return fmt.Errorf("%w; not everything was looked at", cause)
			}
			return err
		}
		return t
	},
}

func (p *patient) unreadable(err error) error {
	p.wrong("Correct the setting; herald -h lists them all.", "settings: %v", err)
	return errors.New("with these settings nothing else can be checked")
}

// examine looks at everything and is an error if something is wrong.
func (p *patient) examine(ctx context.Context, notes []string) error {
	p.fine("settings are readable")
	for _, note := range notes {
		p.wrong("Correct the spelling, or take it out.", "%s", note)
	}
	p.certificate()
	p.port(ctx)
	p.sameFolder()
	p.data()
	p.openFiles()
	p.broker(ctx)
	p.log(ctx)
	if p.cfg.Gateway.JWTSecret == "" && p.cfg.Gateway.JWKS == "" {
		p.fine("no token keys are set: Herald checks tokens with the secret that it makes for itself, %s",
			tokenSecretFile(p.cfg.Data))
	}
	if p.ill > 0 {
		return fmt.Errorf("things that are wrong: %d", p.ill)
	}
	return nil
}

func (p *patient) data() {
	dir := p.cfg.Data
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.fine("data folder %s will be made", dir)
		dir = filepath.Dir(filepath.Clean(dir))
	case err != nil:
		p.wrong("Let this user into it, or choose another one with -data.", "data folder: %v", config.Denied(dir, err))
		return
	case !info.IsDir():
		p.wrong("Choose another one with -data.", "data folder %s is a file", dir)
		return
	}
	probe, err := os.CreateTemp(dir, ".herald-doctor-*")
	if err != nil {
		p.wrong("Let this user write there, or choose another folder with -data.", "data folder: %v",
			config.Denied(dir, err))
		return
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	p.fine("data folder %s is writable", dir)
	p.room()
}

// fewBytes is the room below which nothing can be stored any more, or soon
// nothing: a message may have 64 KiB, and NATS' own files need some.
const fewBytes = 16 << 20

// room does the sum that Herald does at its start.
func (p *patient) room() {
	if p.cfg.NATS.URL != "" {
		return // the stream is on another disk
	}
	r, err := roomFor(p.cfg)
	numbers := fmt.Sprintf("the disk of %s has %s left; the stream takes %s and may grow to %s", p.cfg.Data,
		mebibytes(r.free), mebibytes(r.stored), mebibytes(r.limit))
	switch {
	case err != nil:
		p.wrong("Look at the disk yourself.", "%v", err)
	case r.short() && r.free < fewBytes:
		p.wrong("Make room, or keep less with -stream-max-bytes.",
			"%s: when it is full, publishing answers 503 until there is room", numbers)
	case r.short():
		p.warn("Make room, or keep less with -stream-max-bytes.",
			"%s: Herald runs, and publishing answers 503 when the disk is full", numbers)
	default:
		p.fine("%s", numbers)
	}
}

// log asks whether the log's file can be written. A Herald that runs has said
// so itself.
func (p *patient) log(ctx context.Context) {
	if p.running {
		return
	}
	if err := logger.CheckLog(ctx, p.cfg.Logger.DB); err != nil {
		p.wrong("Until then Herald publishes and delivers, and the messages for the log wait in the stream.", "log: %v",
			err)
		return
	}
	p.fine("the log %s can be written", p.cfg.Logger.DB)
}

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }

// fewFiles is the limit on open files below which a busy gateway meets it:
// every client is one.
const fewFiles = 4096

// openFiles looks at the limit of the Herald that runs, else at that of one
// which would be started here.
func (p *patient) openFiles() {
	limit, known := httpx.OpenFilesLimit()
	who := "a Herald that is started here"
	if p.running || inUse(p.cfg.Data) {
		a, err := readAddress(p.cfg.Data)
		if err != nil {
			p.fine("how many files the running Herald may open it says itself: process_max_fds in /metrics")
			return
		}
		limit, known, who = a.Files, a.Files > 0, "the running Herald"
	}
	switch {
	case !known:
	case limit < fewFiles:
		p.wrong("Raise it: ulimit -n 1048576, or LimitNOFILE in the unit.",
			"%s may open %d files, and so %d connections; every client is one", who, limit, httpx.MaxSockets(limit))
	default:
		p.fine("%s may open %d files, so %d connections; the rest is kept for the store", who, limit,
			httpx.MaxSockets(limit))
	}
}

// brokerWithin bounds the questions to NATS, which a machine with other work may take seconds to answer.
const brokerWithin = 30 * time.Second

func (p *patient) broker(ctx context.Context) {
	where, err := findNATS(p.cfg)
	switch {
	case errors.Is(err, errNotRunning) && !p.running:
		p.fine("the embedded NATS starts with herald")
		return
	case err != nil:
		p.wrong("Start herald with the same -data, or name a NATS with -nats.", "NATS: %v", err)
		return
	}
	nc, err := dialNATS(ctx, where)
	if err != nil && p.cfg.NATS.URL == "" && !p.running && !inUse(p.cfg.Data) {
		p.fine(
			"the last Herald of %s ended without tidying up, by a crash or a kill; the next start goes on with "+
				"all it stored", p.cfg.Data)
		return
	}
	if err != nil {
		p.wrong("Is it running, is the address right, do user and password fit?", "NATS: %v", err)
		return
	}
	defer nc.Close()
	p.fine("NATS %s answers at %s", nc.ConnectedServerVersion(), natsx.Redact(where.URL))
	command := ctx
	ctx, cancel := context.WithTimeout(ctx, brokerWithin)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		p.wrong("This is a fault of Herald.", "JetStream: %v", err)
		return
	}
	s, err := js.Stream(ctx, proto.Stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		p.wrong("Start ingest once: it declares the stream.", "NATS has no stream %s", proto.Stream)
		return
	case err != nil:
		p.wrong("Is JetStream enabled there (jetstream {} with store_dir), and is there a leader?", "stream %s: %v",
			proto.Stream, err)
		return
	}
	state := s.CachedInfo().State
	p.fine("stream %s keeps %d packs of messages, %s", proto.Stream, state.Msgs, mebibytes(state.Bytes))
	defer p.whole(command, nc) // it may take longer than the questions below
	if fault, err := natsx.AskStore(ctx, nc); fault != nil {
		p.wrong("Make room on NATS' disk. An embedded NATS goes on by itself then; restart one that is elsewhere.",
			"%v", fault)
	} else if err != nil {
		p.wrong("Is there a leader?", "%v", err)
	}
	store, err := keystore.Open(ctx, js)
	if err != nil {
		p.wrong("Look at JetStream's own log.", "%v", err)
		return
	}
	list, err := store.List(ctx)
	switch {
	case err != nil:
		p.wrong("Look at JetStream's own log.", "%v", err)
	case len(list) == 0 && p.cfg.Ingest.APIKey == "":
		p.wrong("Make one: herald keys add NAME.", "there is no API key, so nobody can publish")
	default:
		p.fine("API keys stored: %d", len(list))
	}
}

// wholeWithin bounds how long the stream is looked through.
const wholeWithin = 30 * time.Second

// whole looks through the stream for packs that are gone from its middle, which
// NATS passes over without a word.
func (p *patient) whole(ctx context.Context, nc *nats.Conn) {
	ctx, cancel := context.WithTimeout(ctx, wholeWithin)
	index, ended := chanindex.New(), make(chan struct{})
	go func() { defer close(ended); index.Run(ctx, nc, slog.New(slog.DiscardHandler)) }()
	looked := index.Complete(ctx)
	cancel()
	<-ended
	switch n := index.Damaged(); {
	case n > 0:
		p.wrong("Look at the disk under NATS, and its log. Clients are told of the gap; the log may have what is gone.",
			"stream %s is damaged: %d of the packs that it stored are gone from its middle", proto.Stream, n)
	case looked:
		p.fine("stream %s has no holes", proto.Stream)
	default:
		p.fine("stream %s has no holes as far as could be looked at in %s", proto.Stream, wholeWithin)
	}
}
