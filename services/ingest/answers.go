package ingest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// answers are what ingest tells the console and herald top about itself. Nothing of it is kept while nobody asks,
// except for the last refusals.
type answers struct {
	s        *Service
	ops      *telemetry.Ops
	process  ask.Process
	refusals ask.RefusalRing

	mu      sync.Mutex
	forget  *time.Timer // guarded by mu; ends what watch began; nil: it has not begun
	watched time.Time   // guarded by mu; when it began
}

// watchFor is how long it is kept how messages were accepted after somebody asked for one.
const watchFor = time.Minute

func newAnswers(s *Service, ops *telemetry.Ops) *answers {
	return &answers{s: s, ops: ops, process: ask.NewProcess(ask.Ingest, httpx.NewID(), telemetry.BuildVersion())}
}

// run answers until ctx ends.
func (a *answers) run(ctx context.Context) error {
	defer a.unwatch()
	return ask.Serve(ctx, ask.Spec{
		NATS: a.s.nc, Log: a.s.log, Service: ask.Ingest, Instance: a.process.Instance, Version: a.process.Version,
		Answers: map[string]ask.Answer{
			ask.Stats:       ask.Handle(a.stats),
			ask.MessagePath: ask.Handle(a.message),
			ask.Refusals: ask.Handle(func(_ context.Context, q ask.RefusalsQuestion) (ask.RefusalsAnswer, error) {
				return a.refusals.Find(q)
			}),
		},
		Once: map[string]ask.Answer{ask.Publish: ask.Handle(a.s.publishForConsole)},
	})
}

func (a *answers) stats(ctx context.Context, _ struct{}) (ask.IngestStats, error) {
	published, ack, pending := a.s.publisher.Figures()
	cfg := a.s.current.Load()
	return ask.IngestStats{
		Process: a.process.With(a.ops.Ready(ctx)), Published: published, Refused: a.refusals.Count(), Ack: ack,
		Pending: pending,
		Stream:  a.s.publisher.StreamState(), MaxBytes: int64(cfg.StreamMaxBytes), MaxAge: cfg.StreamMaxAge.Seconds(),
		Lane: a.s.publisher.Lane(),
	}, nil
}

// message answers how a message was accepted here. Asking has it kept for those to come.
func (a *answers) message(_ context.Context, q ask.PathQuestion) (ask.IngestPath, error) {
	since := a.watch()
	out := ask.IngestPath{Since: &since}
	if found, ok := a.s.publisher.Accepted(q.ID); ok {
		out.Known, out.Request, out.Address, out.Time = true, found.Request, found.Source, found.Time.UTC()
	}
	return out, nil
}

// watch has it kept how messages are accepted from now on, for watchFor after the last call. It returns since when.
func (a *answers) watch() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.forget != nil && a.forget.Reset(watchFor) {
		return a.watched
	}
	a.watched = time.Now().UTC().Truncate(time.Millisecond)
	a.s.publisher.Watch(true)
	a.forget = time.AfterFunc(watchFor, a.unwatch)
	return a.watched
}

func (a *answers) unwatch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.forget != nil {
		a.forget.Stop()
		a.forget = nil
		a.s.publisher.Watch(false)
	}
}

// refused keeps a request that failed with an error.
func (s *Service) refused(r *http.Request, err error) {
	p := httpx.Problem(err)
	switch {
	case errors.Is(err, errNoMessage):
		p = proto.ProblemInvalidMessage.With(err.Error())
	case p == nil: // its text is for the log alone
		p = proto.ProblemInternal
	}
	f := ask.Refusal{
		Service: ask.Ingest, Instance: s.answers.process.Instance,
		Reason: strings.TrimPrefix(p.Type, "urn:herald:problem:"), Status: p.Status,
		Request: httpx.RequestID(r), Path: r.URL.Path, Detail: p.Error(), Origin: r.Header.Get("Origin"),
	}
	if address := s.cfg.TrustedProxies.ClientIP(r); address.IsValid() {
		f.Address = address.String()
	}
	s.answers.refusals.Add(f)
}
