package logger

import (
	"context"
	"errors"
	"net/http"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// answers are what the logger tells the console about itself.
type answers struct {
	s       *Service
	ops     *telemetry.Ops
	process ask.Process
}

func newAnswers(s *Service, ops *telemetry.Ops) *answers {
	return &answers{s: s, ops: ops, process: ask.NewProcess(ask.Logger, httpx.NewID(), telemetry.BuildVersion())}
}

// run answers until ctx ends.
func (a *answers) run(ctx context.Context) error {
	return ask.Serve(ctx, ask.Spec{
		NATS: a.s.nc, Log: a.s.log, Service: ask.Logger, Instance: a.process.Instance, Version: a.process.Version,
		Answers: map[string]ask.Answer{
			ask.Stats:       ask.Handle(a.stats),
			ask.MessagePath: ask.Handle(a.message),
		},
		Once: map[string]ask.Answer{ask.Search: ask.Handle(a.s.search)},
	})
}

func (a *answers) stats(ctx context.Context, _ struct{}) (ask.LoggerStats, error) {
	return ask.LoggerStats{Process: a.process.With(a.ops.Ready(ctx)), Lag: a.s.metrics.lag(),
		Rows: uint64(ask.Counted(a.s.metrics.rows))}, nil
}

// message answers whether a message has its row.
func (a *answers) message(ctx context.Context, q ask.PathQuestion) (out ask.LoggerPath, err error) {
	id, err := proto.ParseCursor(q.ID)
	if err != nil {
		return out, ask.Refuse(http.StatusBadRequest, "id: %.80q is not the id of a message", q.ID)
	}
	if !a.s.opened.Load() {
		return out, ask.Refuse(http.StatusConflict, "the log cannot be opened now")
	}
	if id.Seq == 0 {
		return out, nil // no message has it
	}
	before := proto.Cursor{Epoch: id.Epoch, Seq: id.Seq - 1}
	page, err := a.s.store.Query(ctx, store.Filter{Asc: true, Limit: 1, Cursor: before.String()})
	switch {
	case errors.Is(err, proto.ErrCursor): // no row can have so large a number
		return out, nil
	case err != nil:
		return out, err
	}
	for _, row := range page.Rows {
		if row.ID() == id.String() {
			out.Row, out.Time = true, row.Timestamp
		}
	}
	last, err := a.s.store.LastSeq(ctx, id.Epoch)
	out.Later = last > id.Seq
	return out, err
}
