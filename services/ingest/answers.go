package ingest

import (
	"context"
	"errors"
	"net/http"
	"strings"

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
	watch    ask.Watch // keeps how messages were accepted
}

func newAnswers(s *Service, ops *telemetry.Ops) *answers {
	return &answers{s: s, watch: ask.Watch{Switch: s.publisher.Watch}, ops: ops,
		process: ask.NewProcess(ask.Ingest, httpx.NewID(), telemetry.BuildVersion())}
}

// run answers until ctx ends.
func (a *answers) run(ctx context.Context) error {
	defer a.watch.Off()
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
	since := a.watch.On()
	out := ask.IngestPath{Since: &since}
	if found, ok := a.s.publisher.Accepted(q.ID); ok {
		out.Known, out.Request, out.Address, out.Time = true, found.Request, found.Source, found.Time.UTC()
	}
	return out, nil
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
