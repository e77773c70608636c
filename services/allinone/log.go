package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/logger"
)

var logCommand = command{
	name: "log", args: "[WORD…]", does: "show who sent what, when; words search the messages",
	about: `
Shows the newest messages of the log, the newest last: of the file on this machine, or, with -url, of a
deployment, for which HERALD_API_KEY needs a key. Words search the messages.`,
	examples: []string{
		"herald log disk full -limit 5",
		"herald log -channel 'public.>' -after 2026-11-22 -format csv > log.csv",
		"herald log -url https://push.example.com -sender shop",
	},
	start: func(c *call) task {
		v := &logView{cfg: defaultConfig(), format: "text", limit: 20, std: c.std}
		return task{
			settings: append(v.keySettings(),
				config.Setting{Flag: "channel", Help: "only this channel or pattern", Into: &v.channel},
				config.Setting{Flag: "sender", Help: "only messages of this API key's name", Into: &v.sender},
				config.Setting{Flag: "event", Help: "only this event", Into: &v.event},
				config.Setting{Flag: "after", Help: "only from this time on (RFC 3339), or from this day on (UTC)",
					Into: &v.after},
				config.Setting{Flag: "before", Help: "only before this time (RFC 3339), or before this day (UTC)",
					Into: &v.before},
				config.Setting{Flag: "limit",
					Help: "the newest N messages; with -format csv or ndjson all are exported", Into: &v.limit},
				config.Setting{Flag: "format",
					Help: "text, ndjson (exact, with escapes), or csv (for spreadsheets: without control characters)",
					Into: &v.format},
				config.Setting{Flag: "data", Env: "HERALD_DATA",
					Help: "data folder of the Herald that runs on this machine", NotEmpty: true, Into: &v.cfg.Data},
				config.Setting{Flag: "db", Env: "HERALD_DB", Help: "the log's file; herald.db in the data folder",
					Into: &v.cfg.Logger.DB},
			),
			run: v.run,
		}
	},
}

// logView is what herald log shows.
type logView struct {
	client
	cfg                                           Config // where the file is
	channel, sender, event, after, before, format string
	limit                                         int
	words                                         string
	std                                           streams
}

// run prints the log: from the file on this machine, or, with -url, from a
// deployment. That nothing fits is said on standard error.
func (v *logView) run(ctx context.Context, words []string) error {
	v.words = strings.Join(words, " ")
	if v.format != "text" && v.format != "ndjson" && v.format != "csv" {
		return fmt.Errorf("format %q: want text, ndjson or csv", v.format)
	}
	if v.limit < 1 {
		return fmt.Errorf("limit %d: want at least 1", v.limit)
	}
	rows, from, err := 0, v.URL, error(nil)
	if v.URL != "" {
		rows, err = v.fromURL(ctx)
	} else {
		v.cfg.share()
		from = v.cfg.Logger.DB
		rows, err = v.fromFile(ctx, from)
	}
	if cause := interrupted(ctx); err != nil && cause != nil {
		return cause
	}
	if err == nil && rows == 0 {
		fmt.Fprintf(v.std.err, "herald: %s\n", v.nothing(from))
	}
	return err
}

// nothing says that no row was found, and where it was looked for.
func (v *logView) nothing(from string) string {
	if v.channel+v.sender+v.event+v.after+v.before+v.words == "" {
		return "the log of " + from + " is empty"
	}
	return "no message in the log of " + from + " fits what was asked for"
}

func (v *logView) fromFile(ctx context.Context, path string) (rows int, err error) {
	l, err := logger.OpenLog(path)
	if err != nil {
		return 0, fmt.Errorf("%w; name the data folder with -data, the file with -db, or a deployment with -url", err)
	}
	defer func() { _ = l.Close() }() // only read from
	f := logger.Filter{Channel: v.channel, Sender: v.sender, Event: v.event, Search: v.words, Asc: v.format != "text"}
	if f.After, err = moment("after", v.after); err != nil {
		return 0, err
	}
	if f.Before, err = moment("before", v.before); err != nil {
		return 0, err
	}
	if v.format != "text" {
		return v.export(func(w io.Writer) error { return l.Export(ctx, f, v.format, w) })
	}
	return v.print(func(limit int, cursor string) (rows []logRow, next string, err error) {
		f.Limit, f.Cursor = limit, cursor
		page, err := l.Query(ctx, f)
		for _, r := range page.Rows {
			rows = append(rows, logRow{r.Message, r.Sender, r.Timestamp, r.Channel, r.Event})
		}
		return rows, page.Next, err
	})
}

// export prints what write writes, as far as a terminal may see it, and
// returns the number of rows, roughly where cells have line breaks.
func (v *logView) export(write func(io.Writer) error) (rows int, err error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends when write has; waited for below
		err := write(w)
		_ = w.CloseWithError(err) // nil: the end
		done <- err
	}()
	rows, err = harmlessLines(v.std.out, r, v.format == "ndjson")
	_ = r.CloseWithError(err) // write ends, too, where printing failed
	if wrote := <-done; err == nil {
		err = wrote
	}
	if v.format == "csv" {
		rows-- // the header
	}
	return rows, err
}

// logRow is what a person sees of a message.
type logRow struct{ Message, Sender, Timestamp, Channel, Event string }

// maxPage is the most that one question may ask for.
const maxPage = 1000

// print collects pages, newest first, until there are enough rows, and prints
// them newest last, where a terminal's eye is.
func (v *logView) print(fetch func(limit int, cursor string) ([]logRow, string, error)) (int, error) {
	var rows []logRow
	for cursor := ""; len(rows) < v.limit; {
		page, next, err := fetch(min(v.limit-len(rows), maxPage), cursor)
		if err != nil {
			return 0, err
		}
		rows = append(rows, page...)
		if cursor = next; next == "" {
			break
		}
	}
	for _, r := range slices.Backward(rows) {
		line := []string{r.Timestamp, r.Channel, r.Sender, r.Event, r.Message}
		for i := range line {
			line[i] = onOneLine(line[i])
		}
		if _, err := fmt.Fprintln(v.std.out, strings.Join(line, "  ")); err != nil {
			return len(rows), err
		}
	}
	return len(rows), nil
}

// fromURL asks the logger's API.
func (v *logView) fromURL(ctx context.Context) (int, error) {
	query := url.Values{}
	for name, value := range map[string]string{"channel": v.channel, "sender": v.sender, "event": v.event,
		"after": v.after, "before": v.before, "q": v.words} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if v.format != "text" {
		query.Set("format", v.format)
		resp, err := v.do(ctx, http.MethodGet, "/v1/log", query, "", nil)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }() // only read from
		return v.export(func(w io.Writer) error { _, err := io.Copy(w, resp.Body); return err })
	}
	return v.print(func(limit int, cursor string) ([]logRow, string, error) {
		query.Set("limit", strconv.Itoa(limit))
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		resp, err := v.do(ctx, http.MethodGet, "/v1/log", query, "", nil)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = resp.Body.Close() }() // only read from
		var page struct {
			Messages []logRow
			Next     string
		}
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			return nil, "", fmt.Errorf("the answer of %s: %w; is that Herald?", v.URL, err)
		}
		return page.Messages, page.Next, nil
	})
}

func moment(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := config.Time(value)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q: %w", name, value, err)
	}
	return t, nil
}
