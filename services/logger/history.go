package logger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// Formats of GET /v1/log.
const (
	formatJSON   = "json"
	formatNDJSON = "ndjson"
	formatCSV    = "csv"
)

// getLog answers GET /v1/log.
func (s *Service) getLog(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	format, err := s.answerLog(w, r)
	if err != nil {
		httpx.WriteProblem(w, r, s.log, err)
		return
	}
	s.metrics.queries.WithLabelValues(format).Observe(time.Since(begin).Seconds())
}

// answerLog checks the key before it looks at anything else. An error means
// that nothing is written yet.
func (s *Service) answerLog(w http.ResponseWriter, r *http.Request) (format string, err error) {
	g, err := s.authenticate(r)
	if err != nil {
		return "", err
	}
	f, format, err := readFilter(r)
	if err != nil {
		return "", err
	}
	if err := allow(&f, g); err != nil {
		return "", err
	}
	if !s.opened.Load() {
		return "", proto.ProblemUnavailable.With("the log cannot be opened now; the operator sees why in /readyz")
	}
	if format != formatJSON {
		return format, s.export(w, r, g, f, format)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.queryTimeout)
	defer cancel()
	page, err := s.store.Query(ctx, f)
	if err != nil {
		return "", queryProblem(ctx, err)
	}
	httpx.WriteJSON(w, http.StatusOK, newPage(page, g.Everything()))
	return format, nil
}

// queryProblem is the answer to a query that failed: a long wait is no fault
// of the request, and says so.
func queryProblem(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return proto.ProblemUnavailable.With("the log is busy")
	}
	return err
}

// allow narrows a filter to what the key covers. Asking for one channel that
// it does not cover is refused: an empty answer would look like an empty log.
func allow(f *store.Filter, g auth.Grant) error {
	if f.Channel != "" && !proto.IsPattern(f.Channel) && !g.May(f.Channel) {
		return proto.ProblemForbidden.With(fmt.Sprintf("channel: the key does not cover %s", f.Channel))
	}
	if f.Allowed = g.Channels; f.Allowed == nil {
		f.Allowed = []string{}
	}
	return nil
}

// invalid is the problem of one query parameter, which its detail names.
func invalid(name, format string, args ...any) error {
	return proto.ProblemInvalidParameter.With(name + ": " + fmt.Sprintf(format, args...))
}

// readFilter reads the query parameters of PROTOCOL.md, "The log". Unknown
// ones are refused: a typing error must not look like an answer.
func readFilter(r *http.Request) (f store.Filter, format string, err error) {
	format = formatJSON
	read := map[string]func(string) error{
		"channel": func(v string) error { f.Channel = v; return proto.CheckPattern(v) },
		"sender":  func(v string) error { f.Sender = v; return proto.CheckName(v) },
		"event":   func(v string) error { f.Event = v; return proto.CheckEvent(v) },
		"after":   func(v string) (err error) { f.After, err = readTime(v); return err },
		"before":  func(v string) (err error) { f.Before, err = readTime(v); return err },
		"q":       func(v string) error { f.Search = v; return store.Filter{Search: v}.Check() },
		"order":   func(v string) (err error) { f.Asc, err = readOrder(v); return err },
		"limit":   func(v string) (err error) { f.Limit, err = readLimit(v); return err },
		"cursor":  func(v string) error { f.Cursor = v; return store.Filter{Cursor: v}.Check() },
		"format":  func(v string) error { format = v; return checkFormat(v) },
	}
	query, err := httpx.Query(r, nil, slices.Sorted(maps.Keys(read))...)
	if err != nil {
		return f, "", proto.ProblemInvalidParameter.With(err.Error())
	}
	for name, values := range query {
		if values[0] == "" {
			return f, "", invalid(name, "it is empty; leave it out")
		}
		if err := read[name](values[0]); err != nil {
			return f, "", invalid(name, "%v", err)
		}
	}
	if format != formatJSON {
		for _, name := range []string{"limit", "cursor"} {
			if query.Has(name) {
				return f, "", invalid(name, "only with format=json; an export has everything")
			}
		}
	}
	return f, format, nil
}

// The first and the last time that a row may have. A bound beyond them finds
// the same rows.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 1e6, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
)

func readTime(v string) (time.Time, error) {
	t, err := config.Time(v)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%w; a + in it is written %%2B", err)
	case t.Before(firstTime):
		return firstTime, nil
	case t.After(lastTime):
		return lastTime, nil
	}
	return t, nil
}

func readOrder(v string) (asc bool, err error) {
	if v != "asc" && v != "desc" {
		return false, errors.New("want asc or desc")
	}
	return v == "asc", nil
}

func readLimit(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > store.MaxLimit {
		return 0, fmt.Errorf("want a number from 1 to %d", store.MaxLimit)
	}
	return n, nil
}

func checkFormat(v string) error {
	if v != formatJSON && v != formatNDJSON && v != formatCSV {
		return errors.New("want json, ndjson or csv")
	}
	return nil
}
