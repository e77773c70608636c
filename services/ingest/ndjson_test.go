package ingest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
)

const ndjson = "Content-Type: application/x-ndjson"

// Ten thousand lines, some of them wrong: one result a line, in order, and
// the right ones are stored in order.
func TestStream(t *testing.T) {
	r := start(t, startNATS(t))
	r.check = nil // against openapi.yaml below, and only some lines
	const n = 10_000
	var body strings.Builder
	for i := 1; i <= n; i++ {
		switch {
		case i%1000 == 0:
			body.WriteString("\n") // skipped, but counted
		case i%100 == 0:
			body.WriteString("{\"channel\":\"a\"}\r\n")
		case i%70 == 0:
			fmt.Fprintf(&body, "{\"channel\":\"a\",\"data\":%d,\"ephemeral\":true}\n", i)
		default:
			fmt.Fprintf(&body, "{\"channel\":\"a\",\"data\":%d}\n", i)
		}
	}
	a := r.post("/v1/messages", body.String(), ndjson)
	if got := a.header.Get("Content-Type"); a.status != http.StatusOK || got != "application/x-ndjson" {
		t.Fatalf("got %d %s: %.200s", a.status, got, a.body)
	}
	results, done := a.lines(t)
	all := stored(t, r.nc)
	epoch := r.publisher.Epoch()
	next, failed, sent := 0, 0, 0
	for i := 1; i <= n; i++ {
		if i%1000 == 0 {
			continue
		}
		res := results[0]
		results = results[1:]
		want := proto.Result{Line: i, Status: proto.StatusStored, Channel: "a"}
		switch {
		case i%100 == 0:
			failed++
			if res.Problem == nil || res.Problem.Type != proto.ProblemInvalidMessage.Type ||
				res.Problem.Pointer != "/data" {
				t.Fatalf("line %d: got problem %+v", i, res.Problem)
			}
			want = proto.Result{Line: i, Status: proto.StatusInvalid, Problem: res.Problem}
		case i%70 == 0:
			sent++
			want.Status = proto.StatusSent
		default:
			want.ID = (proto.Cursor{Epoch: epoch, Seq: all[next].Number}).String()
			if data := fmt.Sprintf(`"data":%d,`, i); !strings.Contains(string(all[next].Body), data) {
				t.Fatalf("line %d: stored %s", i, all[next].Body)
			}
			next++
		}
		if res != want {
			t.Fatalf("line %d: got %+v, want %+v", i, res, want)
		}
	}
	if len(results) != 0 || next != len(all) {
		t.Errorf("left over: %d results, %d of %d stored", len(results), next, len(all))
	}
	if want := (doneLine{true, next + sent, failed}); done == nil || *done != want {
		t.Errorf("last line: got %+v, want %+v", done, want)
	}
}

// What a line may be answered with.
func TestStreamLines(t *testing.T) {
	r := start(t, startNATS(t))
	key := "X-API-KEY: " + addKey(t, "shop", keystore.Options{Channels: []string{"orders.>", "audit"}}, r)
	tooLong := `{"channel":"orders.eu","data":"` + strings.Repeat("x", 300<<10) + `"}`
	body := strings.Join([]string{
		`{"channel":"orders.eu","data":1,"id":"k"}`, // 1
		`{"channel":"orders.eu","data":1,"id":"k"}`, // 2
		`nope`, // 3
		`{"channel":"orders.eu","data":"` + strings.Repeat("x", 64<<10) + `"}`, // 4
		tooLong, // 5
		`{"channels":["orders.eu","audit"],"data":2}`,                       // 6
		`{"channels":["audit","private"],"data":3}`,                         // 7
		`[{"channel":"orders.eu","data":4}]`,                                // 8
		"{\"channel\":\"orders.eu\",\"data\":\"\xff\"}",                     // 9
		`{"channel":"orders.eu","data":5} {"channel":"orders.eu","data":6}`, // 10
		` {"channel":"orders.eu","data":7,"ephemeral":true} `,               // 11
		``, // 12
		"\u00a0{\"channel\":\"orders.eu\",\"data\":1}",                           // 13: no white space of JSON
		`{"channel":"orders.eu","data":"` + strings.Repeat("y", 64<<10-2) + `"}`, // 14
		`{"channel":"orders.eu","data":8}`,                                       // 15: without an end
	}, "\n")
	results, done := r.post("/v1/messages", body, ndjson, key).lines(t)
	type row struct {
		line            int
		status, channel string
		problem         *proto.Problem
		pointer         string
	}
	want := []row{
		{1, "stored", "orders.eu", nil, ""},
		{2, "duplicate", "orders.eu", nil, ""},
		{3, "invalid", "", proto.ProblemInvalidJSON, ""},
		{4, "invalid", "", proto.ProblemTooLarge, "/data"},
		{5, "invalid", "", proto.ProblemTooLarge, ""},
		{6, "stored", "orders.eu", nil, ""},
		{6, "stored", "audit", nil, ""},
		{7, "invalid", "", proto.ProblemForbidden, "/channels/1"},
		{8, "invalid", "", proto.ProblemInvalidMessage, ""},
		{9, "invalid", "", proto.ProblemInvalidJSON, ""},
		{10, "invalid", "", proto.ProblemInvalidJSON, ""},
		{11, "sent", "orders.eu", nil, ""},
		{13, "invalid", "", proto.ProblemInvalidJSON, ""},
		{14, "stored", "orders.eu", nil, ""},
		{15, "stored", "orders.eu", nil, ""},
	}
	if len(results) != len(want) {
		t.Fatalf("got %d results, want %d: %+v", len(results), len(want), results)
	}
	for i, w := range want {
		got := results[i]
		if got.Line != w.line || got.Status != w.status || got.Channel != w.channel {
			t.Errorf("result %d: got %+v, want %+v", i, got, w)
		}
		if (got.Problem == nil) != (w.problem == nil) || w.problem != nil && (got.Problem.Type != w.problem.Type ||
			got.Problem.Pointer != w.pointer) {
			t.Errorf("line %d: got problem %+v, want %+v at %q", got.Line, got.Problem, w.problem, w.pointer)
		}
	}
	if results[1].ID != results[0].ID {
		t.Errorf("duplicate: got id %s, want %s", results[1].ID, results[0].ID)
	}
	if want := (doneLine{true, 7, 8}); done == nil || *done != want {
		t.Errorf("last line: got %+v, want %+v", done, want)
	}
	if n := len(stored(t, r.nc)); n != 5 {
		t.Errorf("stored: got %d messages, want 5", n)
	}
}

// An empty stream is a whole one.
func TestStreamEmpty(t *testing.T) {
	r := start(t, startNATS(t))
	for _, body := range []string{"", "\n", " \r\n\n"} {
		a := r.post("/v1/messages", body, ndjson)
		if results, done := a.lines(t); a.status != http.StatusOK || len(results) != 0 || done == nil ||
			*done != (doneLine{Done: true}) {
			t.Errorf("%q: got %d %s", body, a.status, a.body)
		}
	}
}

// The header's key is extended by the line, so that a stream can be sent
// again as a whole.
func TestStreamIdempotency(t *testing.T) {
	r := start(t, startNATS(t))
	body := "{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"a\",\"data\":2}\n"
	first, _ := r.post("/v1/messages", body, ndjson, "Idempotency-Key: k").lines(t)
	again, _ := r.post("/v1/messages", body, ndjson, "Idempotency-Key: k").lines(t)
	for i := range first {
		if first[i].Status != proto.StatusStored || again[i].Status != proto.StatusDuplicate ||
			again[i].ID != first[i].ID {
			t.Errorf("line %d: got %+v, then %+v", i+1, first[i], again[i])
		}
	}
}

// duplex is a stream that is written and read line by line.
type duplex struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Reader
	body io.ReadCloser
}

// open starts a stream with its first line, since the answer begins then.
func (r *rig) open(t *testing.T, first string, headers ...string) *duplex {
	t.Helper()
	pr, pw := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, r.url+"/v1/messages", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", envKey)
	req.Header.Set("Content-Type", "application/x-ndjson")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	go func() { _, _ = io.WriteString(pw, first) }() // ends when the request's body is read or closed
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	d := &duplex{t, pw, bufio.NewReader(resp.Body), resp.Body}
	t.Cleanup(func() { _ = pw.Close(); _ = resp.Body.Close() })
	return d
}

func (d *duplex) write(s string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, s); err != nil {
		d.t.Fatalf("write: %v", err)
	}
}

func (d *duplex) read() proto.Result {
	d.t.Helper()
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		d.t.Fatalf("read: %v", err)
	}
	var res proto.Result
	if err := json.Unmarshal(line, &res); err != nil {
		d.t.Fatalf("line %s: %v", line, err)
	}
	return res
}

// Results come while the request still runs.
func TestStreamAnswersAtOnce(t *testing.T) {
	r := start(t, startNATS(t))
	line := `{"channel":"a","data":1}` + "\n"
	d := r.open(t, line)
	for i := 1; i <= 20; i++ {
		if res := d.read(); res.Line != i || res.Status != proto.StatusStored {
			t.Fatalf("line %d: got %+v", i, res)
		}
		d.write(line[:10])
		d.write(line[10:])
	}
	d.read()
	_ = d.in.Close()
	rest, err := io.ReadAll(d.out)
	if want := `{"done":true,"stored":21,"failed":0}`; err != nil || strings.TrimSpace(string(rest)) != want {
		t.Errorf("end: got %s, %v, want %s", rest, err, want)
	}
}

// The key's rate slows a stream down instead of refusing it.
func TestStreamRate(t *testing.T) {
	r := start(t, startNATS(t))
	key := "X-API-KEY: " + addKey(t, "slow", keystore.Options{Channels: []string{">"}, Rate: 20}, r)
	begin := time.Now()
	body := strings.Repeat("{\"channel\":\"a\",\"data\":1}\n", 30)
	results, done := r.post("/v1/messages", body, ndjson, key).lines(t)
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("30 lines at 20 a second took %s", took)
	}
	if done == nil || done.Stored != 30 || len(results) != 30 {
		t.Errorf("got %d results, end %+v", len(results), done)
	}
	// A rate below one message in maxPace is not waited for.
	key = "X-API-KEY: " + addKey(t, "snail", keystore.Options{Channels: []string{">"}, Rate: 0.01}, r)
	results, done = r.post("/v1/messages", strings.Repeat("{\"channel\":\"a\",\"data\":1}\n", 2), ndjson, key).lines(t)
	if done == nil || done.Failed != 1 || results[1].Status != proto.StatusFailed ||
		results[1].Problem.Type != proto.ProblemTooManyRequests.Type {
		t.Errorf("got %+v, end %+v", results, done)
	}
}

// Clients that wait for 100 Continue get it before the answer begins.
func TestStreamExpectContinue(t *testing.T) {
	r := start(t, startNATS(t))
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	line := `{"channel":"a","data":1}` + "\n"
	fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-API-KEY: %s\r\nContent-Type: "+
		"application/x-ndjson\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", envKey, len(line))
	in := bufio.NewReader(conn)
	if got, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(got, "HTTP/1.1 100 ") {
		t.Fatalf("first line: got %q, %v, want 100 Continue", got, err)
	}
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(conn, line)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(b), `{"done":true,"stored":1,"failed":0}`+"\n") {
		t.Errorf("answer: got %s, %v", b, err)
	}
}
