package ingest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
)

// raw sends bytes over a socket of their own, and returns the answer's status
// line and what follows; the socket closes with the test.
func (r *rig) raw(t *testing.T, request string) (*bufio.Reader, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", r.url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(conn), conn
}

func wantStatus(t *testing.T, what string, in *bufio.Reader, status int) string {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status {
		t.Errorf("%s: got %s %s, want %d", what, resp.Status, b, status)
	}
	return string(b)
}

func head(path, contentType, more string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: h\r\n" +
		"X-API-KEY: " + envKey + "\r\nContent-Type: " + contentType + "\r\n" +
		more + "\r\n"
}

// nothingStored fails the test if an attack left anything in the stream.
func (r *rig) nothingStored() {
	r.Helper()
	if all := stored(r, r.nc); len(all) != 0 {
		r.Errorf("stored: got %d messages, the first %s; want none", len(all), all[0].Body)
	}
}

// A body larger than allowed is refused by its length before it is sent, and
// by its size when the length is not told.
func TestOversizedBody(t *testing.T) {
	r := start(t, startNATS(t))
	for path, contentType := range map[string]string{"/v1/messages": "application/json", "/v1/channels/a": "text/plain",
		"/notify": "application/json"} {
		in, _ := r.raw(t, head(path, contentType, "Content-Length: 1000000000\r\n"))
		wantStatus(t, path+" by length", in, http.StatusRequestEntityTooLarge)

		in, conn := r.raw(t, head(path, contentType, "Transfer-Encoding: chunked\r\n"))
		go func() { // ends when the server closes the socket
			chunk := []byte("8000\r\n" + strings.Repeat(" ", 0x8000) + "\r\n")
			for {
				if _, err := conn.Write(chunk); err != nil {
					return
				}
			}
		}()
		wantStatus(t, path+" in chunks without end", in, http.StatusRequestEntityTooLarge)
	}
	r.nothingStored()
}

// A key is asked for before a byte of the body is: nobody sends megabytes
// for nothing, and a client that waits for 100 Continue is not told to go on.
func TestKeyBeforeBody(t *testing.T) {
	r := start(t, startNATS(t))
	for _, path := range []string{"/v1/messages", "/v1/channels/a", "/notify"} {
		for _, contentType := range []string{"application/json", "application/x-ndjson"} {
			request := "POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Type: " + contentType +
				"\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
			in, _ := r.raw(t, request)
			wantStatus(t, path, in, http.StatusUnauthorized)
		}
	}
}

// A line without end is skipped, not kept: memory stays bounded.
func TestOversizedLine(t *testing.T) {
	r := start(t, startNATS(t))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pr, pw := io.Pipe()
	go func() { // ends when all is written
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for range 128 {
			_, _ = pw.Write(chunk)
		}
		_, _ = io.WriteString(pw, "\n{\"channel\":\"a\",\"data\":1}\n")
		_ = pw.Close()
	}()
	results, done := r.do(http.MethodPost, "/v1/messages", pr, ndjson).lines(t)
	runtime.ReadMemStats(&after)
	if len(results) != 2 || results[0].Problem == nil || results[0].Problem.Type != proto.ProblemTooLarge.Type ||
		results[1].Line != 2 || done == nil {
		t.Errorf("got %+v, end %+v", results, done)
	}
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 32<<20 {
		t.Errorf("a line of 128 MiB took %d MiB of memory", grown>>20)
	}
}

// slowly serves the rig's routes with short timeouts, as httpx's server does
// with long ones.
func (r *rig) slowly(t *testing.T) *rig {
	t.Helper()
	router := httpx.NewRouter(natstest.Log(t))
	r.Mount(router)
	server := httptest.NewUnstartedServer(router)
	server.Config.ReadHeaderTimeout = 2 * time.Second // a busy machine may stop for some time
	server.Config.ReadTimeout = 3 * time.Second
	server.Start()
	t.Cleanup(server.Close)
	slow := *r
	slow.url = server.URL
	return &slow
}

// A header or a body that drips in is cut off; the body's sender is told.
func TestSlowloris(t *testing.T) {
	t.Parallel() // it waits more than it works
	r := start(t, startNATS(t)).slowly(t)
	in, _ := r.raw(t, "POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-API-KEY:")
	begin := time.Now()
	if b, _ := io.ReadAll(in); time.Since(begin) > time.Minute || strings.Contains(string(b), " 200 ") {
		t.Errorf("header: got %s after %s", b, time.Since(begin))
	}
	for path, contentType := range map[string]string{"/v1/messages": "application/json",
		"/v1/channels/a": "application/json", "/notify": "application/json"} {
		in, conn := r.raw(t, head(path, contentType, "Content-Length: 100\r\n"))
		done := make(chan struct{})
		go func() { // ends when the test is over or the socket closed
			defer close(done)
			for range 50 {
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
		body := wantStatus(t, path, in, http.StatusRequestTimeout)
		if path == "/notify" && !strings.HasPrefix(body, `{"error":"`) {
			t.Errorf("%s: got %s", path, body)
		}
		_ = conn.Close()
		<-done
	}
	r.stall = 200 * time.Millisecond
	in, _ = r.raw(t, head("/v1/messages", "application/x-ndjson", "Content-Length: 100\r\n")+`{"chan`)
	wantStatus(t, "stream before its first line", in, http.StatusRequestTimeout)
	if rest, err := io.ReadAll(in); len(rest) != 0 || err != nil {
		t.Errorf("after that: got %q, %v, want a closed connection", rest, err)
	}
	r.nothingStored()
}

// A body that ends early is not taken for a whole one, even where what came
// is valid.
func TestCutOffBody(t *testing.T) {
	r := start(t, startNATS(t))
	for path, body := range map[string]string{"/v1/messages": `{"channel":"a","data":1}`, "/v1/channels/a": `1`,
		"/notify": `{"message":1}`} {
		_, conn := r.raw(t, head(path, "application/json", fmt.Sprintf("Content-Length: %d\r\n", len(body)+10))+body)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, path, bufio.NewReader(conn), http.StatusBadRequest)
	}
	// Half a line of a stream is none either.
	in, conn := r.raw(t, head("/v1/messages", "application/x-ndjson", "Content-Length: 1000\r\n")+
		`{"channel":"a","data":1}`)
	_ = conn.(*net.TCPConn).CloseWrite()
	wantStatus(t, "stream", in, http.StatusBadRequest)
	r.nothingStored()
}

// Two lengths, or a length beside chunks, could hide a second request.
func TestRequestSmuggling(t *testing.T) {
	r := start(t, startNATS(t))
	body := `{"channel":"a","data":1}`
	for _, lengths := range []string{
		fmt.Sprintf("Content-Length: %d\r\nContent-Length: 5\r\n", len(body)),
		"Content-Length: +5\r\n", "Content-Length: 5, 5\r\n", "Transfer-Encoding: chunked, identity\r\n",
		"Transfer-Encoding: \x0bchunked\r\n",
	} {
		in, _ := r.raw(t, head("/v1/messages", "application/json", lengths)+body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode < 400 {
			t.Errorf("%q: got %+v, %v", lengths, resp, err)
		}
	}
	r.nothingStored()
}

// Deep nesting is refused without recursion running away.
func TestDeepNesting(t *testing.T) {
	r := start(t, startNATS(t))
	deep := strings.Repeat("[", 1<<20)
	for _, body := range []string{deep, deep + strings.Repeat("]", 1<<20), strings.Repeat(`{"a":`, 1<<18),
		`{"channel":"a","data":` + deep + `}`} {
		if a := r.post("/v1/messages", body); a.status != http.StatusBadRequest &&
			a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("/v1/messages: got %d", a.status)
		}
		if a := r.post("/notify", body); a.status != http.StatusBadRequest {
			t.Errorf("/notify: got %d", a.status)
		}
		results, done := r.post("/v1/messages", body+"\n", ndjson).lines(t)
		if len(results) != 1 || done == nil || done.Failed != 1 {
			t.Errorf("stream: got %+v, end %+v", results, done)
		}
		if a := r.post("/v1/channels/a", body[:60<<10]); a.status != http.StatusBadRequest {
			t.Errorf("/v1/channels: got %d", a.status)
		}
	}
	r.nothingStored()
}

// Objects with very many keys are compared in time.
func TestManyKeysInData(t *testing.T) {
	r := start(t, startNATS(t))
	var b strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&b, `"%d":0,`, i)
	}
	begin := time.Now()
	r.post("/v1/channels/a", "{"+b.String()+`"x":0}`).result(t, http.StatusOK)
	r.post("/v1/channels/a", "{"+b.String()+`"5999":0}`).problem(t, proto.ProblemInvalidMessage)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

// A client that hangs up while its message is under way takes nothing with it.
func TestHangUp(t *testing.T) {
	r := start(t, startNATS(t))
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/messages",
			strings.NewReader(`[{"channel":"a","data":1},{"channel":"a","data":1}]`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-KEY", envKey)
		if resp, err := r.client.Do(req); err == nil {
			_ = resp.Body.Close()
		}
		cancel()
	}
	r.post("/v1/messages", `{"channel":"a","data":1}`).result(t, http.StatusOK)
	natstest.Eventually(t, 30*time.Second, "pipeline empty",
		func() bool { return r.figure("herald_ingest_pending_messages") == 0 })
}
