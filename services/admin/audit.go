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

// audit writes down what somebody has done: target is what it was done to,
// before and after how that was and is, without secrets. The action has
// happened, so that a row which cannot be written is in the log instead.
func (s *Service) audit(ctx context.Context, c *call, action, target string, before, after any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout) // who hangs up is in the audit, too
	defer cancel()
	row := audit.Row{Time: s.clock().UTC().Truncate(time.Millisecond), User: c.user, Role: string(c.role),
		Address: c.address, Action: action, Target: target, Before: audit.Value(before), After: audit.Value(after)}
	err := errNotReady
	if st := s.stores.Load(); st != nil {
		err = st.audit.Add(ctx, row)
	}
	if err != nil {
		s.metrics.unaudited.Inc()
		s.log.Error("an action of an administrator is not in the audit, only here", "user", row.User,
			"remote", row.Address, "action", action, "target", target,
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
