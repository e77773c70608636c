package logger

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/keystore"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fill writes rows directly: what they say is what the API is asked for.
func (r *running) fill(rows ...Row) {
	r.t.Helper()
	for i := range rows {
		row := &rows[i]
		row.Epoch, row.Seq = "mib3k2x9", uint64(i+1)
		row.Timestamp = proto.FormatTime(noon.Add(time.Duration(i) * time.Minute))
		if row.Event == "" {
			row.Event = "message"
		}
	}
	if _, err := r.store.Append(context.Background(), rows); err != nil {
		r.t.Fatal(err)
	}
}

// orders are the rows of most tests.
func orders() []Row {
	return []Row{
		{Channel: "orders.eu", Message: `{"n":1}`, Sender: "shop", Source: "203.0.113.7"},
		{Channel: "orders.us", Message: "paid late", Sender: "shop"},
		{Channel: "orders.eu.paid", Message: "Paid in full", Sender: "bank", Event: "paid"},
		{Channel: "alerts", Message: "disk full", Sender: "ops"},
		{Channel: "orders.eu", Message: "<b>full</b> refund", Sender: "bank"},
	}
}

func TestLogParameters(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(orders()...)
	for _, c := range []struct {
		params []string
		want   string
	}{
		{nil, "5 4 3 2 1"}, {[]string{"order", "desc"}, "5 4 3 2 1"}, {[]string{"order", "asc"}, "1 2 3 4 5"},
		{[]string{"channel", "orders.eu"}, "5 1"}, {[]string{"channel", "orders.*"}, "5 2 1"},
		{[]string{"channel", "orders.>"}, "5 3 2 1"},
		{[]string{"channel", "nothing"}, ""}, {[]string{"sender", "bank"}, "5 3"}, {[]string{"event", "paid"}, "3"},
		{[]string{"q", "full"}, "5 4 3"}, {[]string{"q", "FULL pa*"}, "3"},
		{[]string{"q", "full", "sender", "bank", "channel", "orders.eu"}, "5"},
		{[]string{"after", "2026-11-22T12:03:00Z"}, "5 4"}, {[]string{"before", "2026-11-22T12:03:00Z"}, "3 2 1"},
		{[]string{"after", "2026-11-22"}, "5 4 3 2 1"}, {[]string{"before", "2026-11-22"}, ""},
		{[]string{"after", "2026-11-23"}, ""}, {[]string{"before", "2026-11-23"}, "5 4 3 2 1"},
		{[]string{"before", "9999-12-31"}, "5 4 3 2 1"},
		{[]string{"after", "2026-11-22T13:01:00+01:00", "before", "2026-11-22T12:02:00.001Z"}, "3 2"},
		{[]string{"before", "9999-12-31T23:59:59Z"}, "5 4 3 2 1"},
		{[]string{"before", "9999-12-31T23:59:59.9999999-12:00"},
			"5 4 3 2 1"}, {[]string{"after", "9999-12-31T23:59:59-12:00"}, ""},
		{[]string{"after", "0000-01-01T00:00:00Z"}, "5 4 3 2 1"}, {[]string{"after", "0001-01-01T00:00:00+14:00"},
			"5 4 3 2 1"}, {[]string{"before", "0001-01-01T00:00:00Z"}, ""},
		{[]string{"limit", "2"}, "5 4"}, {[]string{"limit", "2", "cursor", "mib3k2x9-4"}, "3 2"},
		{[]string{"order", "asc", "cursor", "mib3k2x9-4"}, "5"},
	} {
		if got := ids(r.entries(envKey, c.params...)); got != c.want {
			t.Errorf("%q: got %s, want %s", c.params, got, c.want)
		}
	}
}

func TestLogAnswersAsDocumented(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(orders()...)
	status, header, body := r.get(envKey, "order", "asc", "limit", "1")
	want := `{"messages":[{"id":"mib3k2x9-1","seq":1,"channel":"orders.eu","event":"message","message":"{\"n\":1}",` +
		`"sender":"shop","timestamp":"2026-11-22T12:00:00.000Z","source":"203.0.113.7"}],"next":"mib3k2x9-1"}` + "\n"
	if status != 200 || string(body) != want || header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s\n%s\nwant %s", status, header.Get("Content-Type"), body, want)
	}
	if _, _, body := r.get(envKey, "channel", "nothing"); string(body) != `{"messages":[]}`+"\n" {
		t.Errorf("nothing found: got %s", body)
	}
	pages := ""
	for cursor := "mib3k2x9-6"; cursor != ""; {
		p := r.entries(envKey, "limit", "2", "cursor", cursor)
		pages += ids(p) + ";"
		cursor = p.Next
	}
	if pages != "5 4;3 2;1;" {
		t.Errorf("pages: got %s", pages)
	}
}

func TestExportNDJSON(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(orders()...)
	status, header, body := r.get(envKey, "format", "ndjson", "order", "asc", "channel", "orders.>")
	if status != 200 || header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("got %d %s", status, header.Get("Content-Type"))
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	var got []string
	for _, line := range lines {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Message)
	}
	if want := []string{`{"n":1}`, "paid late", "Paid in full", "<b>full</b> refund"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExportCSV(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(Row{Channel: "a", Message: "plain", Sender: "shop"}, Row{Channel: "a", Message: `=HYPERLINK("http://x")`,
		Sender: "@shop"},
		Row{Channel: "-a", Message: "\t=1", Sender: "+1"}, Row{Channel: "a", Message: "\r=1", Source: "=1"},
		Row{Channel: "a", Message: "line\nbreak, \"quoted\""}, Row{Channel: "a", Message: "-5"})
	status, header, body := r.get(envKey, "format", "csv", "order", "asc")
	if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") ||
		!strings.Contains(header.Get("Content-Disposition"), "herald-log.csv") {
		t.Errorf("got %d %v", status, header)
	}
	records, err := csv.NewReader(strings.NewReader(string(body))).ReadAll()
	if err != nil || len(records) != 7 {
		t.Fatalf("got %d records, %v, want 7\n%s", len(records), err, body)
	}
	want := [][]string{
		{"message", "sender", "timestamp", "channel", "event", "id", "epoch", "seq", "source"},
		{"plain", "shop", "2026-11-22T12:00:00.000Z", "a", "message", "mib3k2x9-1", "mib3k2x9", "1", ""},
		{`'=HYPERLINK("http://x")`, "'@shop", "2026-11-22T12:01:00.000Z",
			"a", "message", "mib3k2x9-2", "mib3k2x9", "2", ""},
		{"'\t'=1", "'+1", "2026-11-22T12:02:00.000Z", "'-a", "message", "mib3k2x9-3", "mib3k2x9", "3", ""},
	}
	for i, w := range want {
		if !slices.Equal(records[i], w) {
			t.Errorf("record %d: got %q, want %q", i, records[i], w)
		}
	}
	if got := records[4][0]; !strings.HasPrefix(got, "'") || records[4][8] != "'=1" {
		t.Errorf("carriage return: got %q, source %q", got, records[4][8])
	}
	if records[5][0] != "line\nbreak, \"quoted\"" || records[6][0] != "'-5" {
		t.Errorf("got %q and %q", records[5][0], records[6][0])
	}
}

func TestExportStreamsMoreThanAPage(t *testing.T) {
	r := newWorld(t).startReady()
	rows := make([]Row, 3500)
	for i := range rows {
		rows[i] = Row{Channel: "a", Message: fmt.Sprintf("number %d", i+1)}
	}
	r.fill(rows...)
	for format, want := range map[string]int{"ndjson": 3500, "csv": 3501} {
		_, _, body := r.get(envKey, "format", format)
		if got := strings.Count(string(body), "\n"); got != want {
			t.Errorf("%s: got %d lines, want %d", format, got, want)
		}
	}
}

func TestKeysOfTheBucketAndWhatTheyCover(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	r.fill(orders()...)
	ctx := context.Background()
	narrow, _, err := w.keys.Add(ctx, "narrow", keystore.Options{Channels: []string{"orders.eu.>", "alerts"},
		May: []auth.Scope{auth.Log}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the key is known", func() bool { status, _, _ := r.get(narrow); return status == 200 })
	for _, c := range []struct {
		params []string
		want   string
	}{
		{nil, "4 3"}, {[]string{"channel", "orders.>"}, "3"}, {[]string{"channel", ">"}, "4 3"},
		{[]string{"channel", "orders.eu.paid"}, "3"},
		{[]string{"q", "full"}, "4 3"}, {[]string{"channel", "orders.*"}, ""}, {[]string{"cursor", "mib3k2x9-4"}, "3"},
	} {
		if got := ids(r.entries(narrow, c.params...)); got != c.want {
			t.Errorf("%q: got %s, want %s", c.params, got, c.want)
		}
	}
	status, _, body := r.get(narrow, "channel", "orders.eu")
	if status != 403 || !strings.Contains(string(body), "forbidden") || !strings.Contains(string(body), "channel: ") {
		t.Errorf("a channel that the key does not cover: got %d %s, want 403", status, body)
	}
	for format, want := range map[string]int{"ndjson": 2, "csv": 3} {
		_, _, body := r.get(narrow, "format", format)
		if got := strings.Count(string(body), "\n"); got != want {
			t.Errorf("%s: got %d lines, want %d\n%s", format, got, want, body)
		}
	}
	if _, err := w.keys.Revoke(ctx, "narrow"); err != nil {
		t.Fatal(err)
	}
	r.eventually("the key is revoked", func() bool { status, _, _ := r.get(narrow); return status == 401 })
}

func TestOpenLogBesideTheService(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	r.fill(orders()...)
	l, err := OpenLog(w.cfg.DB)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := l.Query(context.Background(), Filter{Search: "full", Limit: 2})
	if err != nil || len(p.Rows) != 2 || p.Next == "" || p.Rows[0].Message != "<b>full</b> refund" {
		t.Errorf("query: got %+v, %v", p, err)
	}
	for format, want := range map[string]int{"ndjson": 5, "csv": 6} {
		var out strings.Builder
		if err := l.Export(context.Background(), Filter{Asc: true}, format, &out); err != nil {
			t.Error(err)
		}
		_, _, body := r.get(envKey, "order", "asc", "format", format)
		if got := out.String(); got != string(body) || strings.Count(got, "\n") != want {
			t.Errorf("%s: got\n%s\nwant what the API answers\n%s", format, got, body)
		}
	}
	if err := l.Export(context.Background(), Filter{}, "json", io.Discard); err == nil {
		t.Error("an export as json was made")
	}
	if _, err := OpenLog(w.cfg.DB + ".missing"); err == nil {
		t.Error("a missing file was opened")
	}
}

func TestConfig(t *testing.T) {
	cfg := DefaultConfig()
	env := map[string]string{"HERALD_LOG_MAX_AGE": "48h", "HERALD_DB": "x.db", "HERALD_API_KEY": envKey}
	if _, err := config.Parse("logger", []string{"-log-max-bytes", "2097152", "-db", "y.db"}, configtest.Vars(env), nil,
		nil, cfg.Settings()); err != nil {
		t.Fatal(err)
	}
	if want := (Config{Listen: ":8082", DB: "y.db", MaxAge: 48 * time.Hour, MaxBytes: 2 << 20,
		APIKey: envKey}); cfg != want || cfg.Validate() != nil {
		t.Errorf("got %+v, %v, want %+v", cfg, cfg.Validate(), want)
	}
	bad := Config{MaxAge: time.Second, MaxBytes: 5, APIKey: "changeme"}
	err := bad.Validate()
	for _, want := range []string{"db:", "log-max-age:", "log-max-bytes:", "HERALD_API_KEY"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults: got %v, want %s too", err, want)
		}
	}
	if d := DefaultConfig(); d.MaxAge != 720*time.Hour || d.MaxBytes != 0 || d.Validate() != nil {
		t.Errorf("default: got %+v, %v", d, d.Validate())
	}
}

func TestNewReportsATakenPort(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.cfg.Listen = r.Addr().String()
	w.cfg.DB = t.TempDir() + "/other.db"
	if _, err := New(context.Background(), w.cfg, Deps{NATS: w.nc, Log: r.log, Registry: nil,
		Ops: r.ops}); err == nil ||
		!strings.Contains(err.Error(), "listen") {
		t.Errorf("a taken port: got %v", err)
	}
	if status, _, _ := r.getRaw("", "/nothing"); status != http.StatusNotFound {
		t.Errorf("unknown path: got %d", status)
	}
}
