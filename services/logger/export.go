package logger

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// entry is a row as the API shows it:
//
//	{"id":"mib3k2x9-1024","seq":1024,"channel":"orders.eu","event":"message","message":"{\"n\":1}",
//	 "sender":"shop","timestamp":"2026-11-22T16:58:36.123Z","source":"203.0.113.7"}
type entry struct {
	ID        string `json:"id"`
	Seq       uint64 `json:"seq"`
	Channel   string `json:"channel"`
	Event     string `json:"event"`
	Message   string `json:"message"`
	Sender    string `json:"sender"`
	Timestamp string `json:"timestamp"`
	Source    string `json:"source"`
}

func newEntry(r *store.Row) entry {
	return entry{r.ID(), r.Seq, r.Channel, r.Event, r.Message, r.Sender, r.Timestamp, r.Source}
}

// page is the answer with format=json.
type page struct {
	Messages []entry `json:"messages"`
	Next     string  `json:"next,omitempty"`
}

// newPage leaves publishers' addresses out, unless addresses.
func newPage(p store.Page, addresses bool) page {
	out := page{Messages: make([]entry, len(p.Rows)), Next: p.Next}
	for i := range p.Rows {
		if !addresses {
			p.Rows[i].Source = ""
		}
		out.Messages[i] = newEntry(&p.Rows[i])
	}
	return out
}

const (
	// exportBytes are written at once.
	exportBytes = 64 << 10
	// exportStall is how long the client may take for that.
	exportStall = 30 * time.Second
)

// export streams everything that fits the filter. An error means that nothing
// is written yet; later ones break the connection off, so that nobody takes a
// part for the whole.
func (s *Service) export(w http.ResponseWriter, r *http.Request, g auth.Grant, f store.Filter, format string) error {
	free, err := s.exports.Acquire(g.KeyID)
	switch {
	case errors.Is(err, httpx.ErrKeyHasPlaces):
		return proto.ProblemTooManyRequests.With(fmt.Sprintf("%d exports of this key are running; try again "+
			"when one is done", maxExportsOfKey))
	case err != nil:
		return proto.ProblemUnavailable.With("other exports are running; try again when they are done")
	}
	defer free()
	out := &patient{w: w, deadline: http.NewResponseController(w).SetWriteDeadline}
	buf := bufio.NewWriterSize(out, exportBytes)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/x-ndjson")
	if format == formatCSV {
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		h.Set("Content-Disposition", `attachment; filename="herald-log.csv"`)
	}
	if r.Method == http.MethodHead {
		return nil // an export of everything, for nobody to read
	}
	err = writeRows(r.Context(), s.store, f, format, g.Everything(), buf)
	if err == nil {
		err = buf.Flush()
	}
	if err == nil {
		return nil
	}
	if !out.wrote {
		h.Del("Content-Disposition")
		return queryProblem(r.Context(), err)
	}
	if r.Context().Err() == nil {
		s.log.Warn("export broken off", "err", err)
	}
	panic(http.ErrAbortHandler)
}

// writeRows writes every row that fits the filter, as CSV or NDJSON, with the
// publishers' addresses or without.
func writeRows(ctx context.Context, from *store.Store, f store.Filter, format string, addresses bool,
	w io.Writer) error {
	each := func(write func(r *store.Row) error) error {
		return from.Export(ctx, f, func(r *store.Row) error {
			if !addresses {
				r.Source = ""
			}
			return write(r)
		})
	}
	if format != formatCSV {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return each(func(r *store.Row) error { return enc.Encode(newEntry(r)) })
	}
	if _, err := io.WriteString(w, csvHeader); err != nil {
		return err
	}
	var line []byte
	return each(func(r *store.Row) error {
		line = appendCSV(line[:0], r)
		_, err := w.Write(line)
		return err
	})
}

// patient writes to a client that may be slow but not dead: the server's
// write timeout is for whole answers, this one counts from write to write.
type patient struct {
	w        http.ResponseWriter
	deadline func(time.Time) error
	wrote    bool
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.deadline(time.Now().Add(exportStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	p.wrote = true
	return p.w.Write(b)
}
