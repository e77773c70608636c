package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/ask"
)

const (
	// searchWait is longer than the logger searches.
	searchWait = 15 * time.Second
	// exportStall is how long a client may take for one page of an export, and
	// the logger to make it.
	exportStall = 45 * time.Second
	// exportsAtOnce run in this process, and so many of one user.
	exportsAtOnce = 4
	exportsOfUser = 2
)

// getLog reads the log: parameters and answers are those of GET /v1/log, which a
// logger makes page by page.
func (s *Service) getLog(w http.ResponseWriter, r *http.Request, c *call) error {
	query := r.URL.Query()
	if format := query.Get("format"); format != "csv" && format != "ndjson" {
		a, err := s.search(r, ask.SearchQuestion{Query: r.URL.RawQuery})
		if err != nil {
			return err
		}
		writeAnswer(w, a)
		return nil
	}
	free, err := s.exports.Acquire(c.user)
	if err != nil {
		return proto.ProblemTooManyRequests.With("other exports are running; try again when one is done")
	}
	defer free()
	if !query.Has("before") { // what is stored meanwhile would make it endless
		query.Set("before", s.clock().UTC().Format(time.RFC3339Nano))
	}
	q := ask.SearchQuestion{Query: r.URL.RawQuery}
	a, err := s.search(r, q)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK { // what is wrong with the parameters is told of those that were given
		writeAnswer(w, a)
		return nil
	}
	q.Query = query.Encode()
	w.Header().Set("Content-Disposition", `attachment; filename="herald-log.`+query.Get("format")+`"`)
	for begun := false; ; begun = true {
		// Not every ResponseWriter has deadlines; then the server's own holds.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(exportStall))
		if !begun {
			writeAnswer(w, a)
		} else if _, err := w.Write(a.Body); err != nil {
			return nil // the client hung up
		}
		if q.Cursor = a.Header[ask.HeaderNext]; q.Cursor == "" {
			return nil
		}
		if err = s.authorizeAgain(r, users.Viewer); err == nil { // who is removed reads no further
			a, err = s.search(r, q)
		}
		if err != nil || a.Status != http.StatusOK {
			s.log.Warn("export broken off", "user", c.user, "status", a.Status, "err", err)
			panic(http.ErrAbortHandler) // a part must not look like the whole
		}
	}
}

// search asks a logger for a page. Errors are problems.
func (s *Service) search(r *http.Request, q ask.SearchQuestion) (a ask.HTTPAnswer, err error) {
	a, err = ask.Any[ask.HTTPAnswer](r.Context(), s.ask, ask.Logger, ask.Search, q, searchWait)
	var refused *ask.Error
	switch {
	case err == nil:
		return a, nil
	case errors.As(err, &refused):
		return a, proto.ProblemUnavailable.With(refused.Text)
	default:
		return a, problemNotReady(err)
	}
}
