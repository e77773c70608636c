package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/internal/httpx"
)

// auditTimeout bounds the writing of a row.
const auditTimeout = 3 * time.Second

// intent is what somebody is about to do: to what, how that is before, and how it is to
// be after, without secrets.
type intent struct {
	action, target string
	before, after  any
}

// act writes down what somebody is about to do, has it done, and writes down what came
// of it: after as do returns it, or the intent's where that is nil. What cannot be written
// down is not done; the error is a problem then. An outcome that cannot be written is in
// the log instead, and the intent stays in the audit.
func (s *Service) act(ctx context.Context, c *call, what intent, do func() (after any, err error)) error {
	st := s.stores.Load()
	if st == nil {
		return problemNotReady(errNotReady)
	}
	row := s.row(c, what)
	begun, err := begin(ctx, st.audit, row)
	if err != nil {
		s.doubt()
		return proto.ProblemUnavailable.With("nothing was done, because NATS does not take its row of the audit: " +
			trouble(err))
	}
	after, failed := do()
	if failed != nil {
		row.Outcome, row.After = outcome(failed), audit.Value(reason(failed))
	} else if after != nil {
		row.After = audit.Value(after)
	}
	row.Time = s.clock().UTC().Truncate(time.Millisecond)
	s.write(ctx, row, func(ctx context.Context) error { return st.audit.End(ctx, begun, row) })
	return failed
}

func begin(ctx context.Context, log *audit.Log, row audit.Row) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return log.Begin(ctx, row)
}

// outcome is what came of an action that ended with an error.
func outcome(err error) audit.Outcome {
	var p *proto.Problem
	if errors.As(err, &p) && p.Status < http.StatusInternalServerError {
		return audit.Nothing
	}
	return audit.Failed
}

// reason is what the audit says of an error: the words of a problem. The text of any other error
// goes to the log only.
func reason(err error) string {
	var p *proto.Problem
	if errors.As(err, &p) {
		return p.Error()
	}
	return proto.ProblemInternal.Error()
}

// audit writes down what has happened and cannot be undone or refused: who could not log
// in, who has logged out.
func (s *Service) audit(ctx context.Context, c *call, what intent) {
	row := s.row(c, what)
	s.write(ctx, row, func(ctx context.Context) error {
		st := s.stores.Load()
		if st == nil {
			return errNotReady
		}
		return st.audit.Add(ctx, row)
	})
}

func (s *Service) row(c *call, what intent) audit.Row {
	return audit.Row{Time: s.clock().UTC().Truncate(time.Millisecond), User: c.user, Role: string(c.role),
		Address: c.address, Action: what.action, Target: what.target, Before: audit.Value(what.before),
		After: audit.Value(what.after)}
}

// write writes a row of what has happened. One that cannot be written is in the log
// instead.
func (s *Service) write(ctx context.Context, row audit.Row, add func(context.Context) error) {
	// also when the person's browser has hung up meanwhile
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := add(ctx); err != nil {
		s.doubt()
		s.metrics.unaudited.Inc()
		s.log.Error("what came of an action of an administrator is not in the audit, only here", "user", row.User,
			"remote", row.Address, "action", row.Action, "target", row.Target, "outcome", string(row.Outcome),
			"before", string(row.Before), "after", string(row.After), "err", err)
	}
}

// defaultPage is how many rows a page has where nobody says.
const defaultPage = 100

// getAudit is a page of the audit, the newest rows first.
func (s *Service) getAudit(w http.ResponseWriter, r *http.Request, _ *call) error {
	query, err := httpx.Query(r, nil, "user", "action", "cursor", "limit")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	q := audit.Query{User: query.Get("user"), Action: query.Get("action"), Cursor: query.Get("cursor"),
		Limit: defaultPage}
	if v := query.Get("limit"); v != "" {
		if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 1 || q.Limit > audit.MaxLimit {
			return proto.ProblemInvalidParameter.With("limit: want a number from 1 to " + strconv.Itoa(audit.MaxLimit))
		}
	}
	rows, next, err := s.stores.Load().audit.Page(r.Context(), q)
	switch {
	case errors.Is(err, audit.ErrCursor):
		return proto.ProblemInvalidParameter.With(err.Error())
	case err != nil:
		return problemNotReady(err)
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"rows": rows, "next": next})
	return nil
}
