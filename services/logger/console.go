package logger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/logger/internal/store"
)

const (
	// consoleBytes bounds what a page for the console has: in base64 it is a third
	// larger, and an answer has ask.MaxAnswer bytes.
	consoleBytes = ask.MaxAnswer*3/4 - 16<<10
	// consoleMessages of a page are read from the file. As JSON they are larger.
	consoleMessages = 256 << 10
)

// search answers a page of the log to the console, which has made sure that who
// asks may read it. The answer is that of GET /v1/log; of an export it is a page,
// and HeaderNext leads to the next one.
func (s *Service) search(ctx context.Context, q ask.SearchQuestion) (ask.HTTPAnswer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/log", nil)
	if err != nil {
		return ask.HTTPAnswer{}, err
	}
	r.URL = &url.URL{Path: "/v1/log", RawQuery: q.Query}
	return ask.Record(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		format, err := s.answerSearch(w, r, q.Cursor)
		if err != nil {
			httpx.WriteProblem(w, r, s.log, err)
			return
		}
		s.metrics.queries.WithLabelValues(format).Observe(time.Since(begin).Seconds())
	}), r), nil
}

// answerSearch answers by itself, or returns the problem to answer with.
func (s *Service) answerSearch(w http.ResponseWriter, r *http.Request, cursor string) (format string, err error) {
	f, format, err := readFilter(r)
	if err != nil {
		return "", err
	}
	if cursor != "" {
		f.Cursor = cursor
		if err := f.Check(); err != nil {
			return "", invalid("cursor", "%v", err)
		}
	}
	if !s.opened.Load() {
		return "", proto.ProblemUnavailable.With("the log cannot be opened now; the operator sees why in /readyz")
	}
	if f.Bytes = consoleMessages; format != formatJSON {
		f.Limit = store.MaxLimit
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.queryTimeout)
	defer cancel()
	page, err := s.store.Query(ctx, f)
	if err != nil {
		return "", queryProblem(ctx, err)
	}
	body, next, err := render(page, format, format == formatCSV && cursor == "")
	if err != nil {
		return "", err
	}
	h := w.Header()
	switch format {
	case formatJSON:
		httpx.WriteLine(w, http.StatusOK, body)
		return format, nil
	case formatCSV:
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	case formatNDJSON:
		h.Set("Content-Type", "application/x-ndjson")
	}
	if next != "" {
		h.Set(ask.HeaderNext, next)
	}
	_, _ = w.Write(body) // into memory
	return format, nil
}

// render writes as many rows of a page as an answer may have, and one at least;
// next is the cursor behind them. A message that is too long even for an answer of
// its own is told to be.
func render(p store.Page, format string, header bool) (body []byte, next string, err error) {
	var out bytes.Buffer
	switch {
	case format == formatJSON:
		out.WriteString(`{"messages":[`)
	case header:
		out.WriteString(csvHeader)
	}
	next = p.Next
	var line []byte
	for i := range p.Rows {
		if line, err = appendRow(line[:0], &p.Rows[i], format); err != nil {
			return nil, "", err
		}
		if len(line) > consoleBytes/2 {
			row := p.Rows[i]
			row.Message = tooLong(len(row.Message))
			if line, err = appendRow(line[:0], &row, format); err != nil {
				return nil, "", err
			}
		}
		if i > 0 && out.Len()+len(line) > consoleBytes {
			next = p.Rows[i-1].ID()
			break
		}
		if format == formatJSON && i > 0 {
			out.WriteByte(',')
		}
		out.Write(line)
	}
	if format == formatJSON {
		out.WriteByte(']')
		if next != "" {
			out.WriteString(`,"next":"` + next + `"`) // of letters, digits and -
		}
		out.WriteString("}\n")
	}
	return out.Bytes(), next, nil
}

// tooLong stands for a message that no answer to the console can have.
func tooLong(n int) string {
	return fmt.Sprintf("(%d bytes: too long for the console; GET /v1/log and herald log have it)", n)
}

func appendRow(b []byte, r *store.Row, format string) ([]byte, error) {
	if format == formatCSV {
		return appendCSV(b, r), nil
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(newEntry(r)); err != nil {
		return nil, err
	}
	b = append(b, line.Bytes()...)
	if format == formatJSON {
		b = bytes.TrimSuffix(b, []byte("\n"))
	}
	return b, nil
}
