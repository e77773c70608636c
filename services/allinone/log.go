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

// logView is what herald log shows.
type logView struct {
	channel, sender, event, after, before, format string
	limit                                         int
	words                                         string
}

// showLog prints the log, newest last: from the file on this machine, or,
// with -url, from a deployment.
func showLog(ctx context.Context, args []string, env config.Env, std streams) error {
	v := logView{format: "text", limit: 20}
	cfg := defaultConfig()
	c := client{}
	words, err := parseAnywhere("herald log", args, env, std.out, append(c.settings(),
		config.Setting{Flag: "channel", Help: "only this channel or pattern", Into: &v.channel},
		config.Setting{Flag: "sender", Help: "only messages of this API key's name", Into: &v.sender},
		config.Setting{Flag: "event", Help: "only this event", Into: &v.event},
		config.Setting{Flag: "after", Help: "only from this time on (RFC 3339)", Into: &v.after},
		config.Setting{Flag: "before", Help: "only before this time (RFC 3339)", Into: &v.before},
		config.Setting{Flag: "limit", Help: "the newest N messages; with -format csv or ndjson all are exported", Into: &v.limit},
		config.Setting{Flag: "format", Help: "text, ndjson or csv", Into: &v.format},
		config.Setting{Flag: "data", Env: "HERALD_DATA", Help: "data folder of the Herald that runs on this machine", Into: &cfg.Data},
		config.Setting{Flag: "db", Env: "HERALD_DB", Help: "the log's file; herald.db in the data folder", Into: &cfg.Logger.DB},
	))
	if err != nil {
		return err
	}
	v.words = strings.Join(words, " ")
	if v.format != "text" && v.format != "ndjson" && v.format != "csv" {
		return fmt.Errorf("format %q: want text, ndjson or csv", v.format)
	}
	if c.URL != "" {
		return v.fromURL(ctx, &c, std.out)
	}
	cfg.share()
	return v.fromFile(ctx, cfg.Logger.DB, std.out)
}

func (v logView) fromFile(ctx context.Context, path string, out io.Writer) error {
	l, err := logger.OpenLog(path)
	if err != nil {
		return fmt.Errorf("%w; name the data folder with -data, the file with -db, or a deployment with -url", err)
	}
	defer func() { _ = l.Close() }() // only read from
	f := logger.Filter{Channel: v.channel, Sender: v.sender, Event: v.event, Search: v.words, Asc: v.format != "text"}
	if f.After, err = moment("after", v.after); err != nil {
		return err
	}
	if f.Before, err = moment("before", v.before); err != nil {
		return err
	}
	if v.format != "text" {
		return l.Export(ctx, f, v.format, out)
	}
	return v.print(out, func(limit int, cursor string) (rows []logRow, next string, err error) {
		f.Limit, f.Cursor = limit, cursor
		page, err := l.Query(ctx, f)
		for _, r := range page.Rows {
			rows = append(rows, logRow{r.Message, r.Sender, r.Timestamp, r.Channel, r.Event})
		}
		return rows, page.Next, err
	})
}

// logRow is what a person sees of a message.
type logRow struct{ Message, Sender, Timestamp, Channel, Event string }

// maxPage is the most that one question may ask for.
const maxPage = 1000

// print collects pages, newest first, until there are enough rows, and prints
// them newest last, where a terminal's eye is.
func (v logView) print(out io.Writer, fetch func(limit int, cursor string) ([]logRow, string, error)) error {
	var rows []logRow
	for cursor := ""; len(rows) < v.limit; {
		page, next, err := fetch(min(v.limit-len(rows), maxPage), cursor)
		if err != nil {
			return err
		}
		rows = append(rows, page...)
		if cursor = next; next == "" {
			break
		}
	}
	for _, r := range slices.Backward(rows) {
		if _, err := fmt.Fprintf(out, "%s  %s  %s  %s  %s\n", r.Timestamp, r.Channel, r.Sender, r.Event, harmless(r.Message)); err != nil {
			return err
		}
	}
	return nil
}

// harmless puts a message on one line and shows control characters (a
// terminal's escape sequences, say) where the terminal would obey them.
func harmless(message string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, strings.ReplaceAll(message, "\n", " ⏎ "))
}

// fromURL asks the logger's API.
func (v logView) fromURL(ctx context.Context, c *client, out io.Writer) error {
	query := url.Values{}
	for name, value := range map[string]string{"channel": v.channel, "sender": v.sender, "event": v.event, "after": v.after, "before": v.before, "q": v.words} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if v.format != "text" {
		query.Set("format", v.format)
		resp, err := c.do(ctx, http.MethodGet, "/v1/log", query, "", nil)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // only read from
		_, err = io.Copy(out, resp.Body)
		return err
	}
	return v.print(out, func(limit int, cursor string) ([]logRow, string, error) {
		query.Set("limit", strconv.Itoa(limit))
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		resp, err := c.do(ctx, http.MethodGet, "/v1/log", query, "", nil)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = resp.Body.Close() }() // only read from
		var page struct {
			Messages []logRow
			Next     string
		}
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			return nil, "", fmt.Errorf("the answer of %s: %w", c.URL, err)
		}
		return page.Messages, page.Next, nil
	})
}

func moment(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is not a time such as 2026-11-22T16:58:36Z", name, value)
	}
	return t, nil
}
