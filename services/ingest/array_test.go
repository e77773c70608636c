package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
)

// scan is what scanner makes of an array that arrives in pieces of so many
// bytes; nil is a fault, or an end that did not come.
func scan(body []byte, piece int) (elements []json.RawMessage) {
	var s scanner
	elements = []json.RawMessage{}
	for n := 0; ; n = min(n+piece, len(body)) {
		for {
			element, ok, err := s.next(body[:n])
			if err != nil {
				return nil
			}
			if !ok {
				break
			}
			if !json.Valid(element) {
				return nil
			}
			elements = append(elements, bytes.Clone(element))
		}
		if n == len(body) {
			break
		}
	}
	if !s.ended {
		return nil
	}
	return elements
}

// FuzzScanner holds the scanner against encoding/json, in pieces of all sizes.
func FuzzScanner(f *testing.F) {
	for _, body := range []string{`[]`, ` [ 1 , {"a":[2]} , "x,]\"" ] `, `[[1,2],[]]`, `[1,]`, `[,1]`, `[1`,
		`[1]2`, `[1}`,
		`[{"a":1]]`, `["\\",{}]`, `["\`, `[]]`, `[ ]`, `[{"\"}":[]}]`} {
		f.Add([]byte(body), byte(1))
		f.Add([]byte(body), byte(3))
	}
	f.Fuzz(func(t *testing.T, body []byte, piece byte) {
		if b := bytes.TrimLeft(body, " \t\r\n"); len(b) == 0 || b[0] != '[' {
			return
		}
		var want []json.RawMessage
		if json.Unmarshal(body, &want) != nil {
			want = nil
		}
		got := scan(body, max(1, int(piece)))
		if (got == nil) != (want == nil) || len(got) != len(want) {
			t.Fatalf("%q: got %q, want %q", body, got, want)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("%q: element %d: got %q, want %q", body, i, got[i], want[i])
			}
		}
	})
}

// heldBack is the rest of a body, which does not come before the answer.
type heldBack struct {
	answered chan struct{}
	inVain   atomic.Bool // no answer came
}

func (h *heldBack) Read([]byte) (int, error) {
	select {
	case <-h.answered:
	case <-time.After(time.Minute):
		h.inVain.Store(true)
	}
	return 0, io.EOF
}

// An array costs no more memory than a small multiple of its bytes, and one
// that is refused at its first element nearly nothing.
func TestArrayMemory(t *testing.T) {
	r := start(t, startNATS(t))
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	measure := func(body []byte, status int) (peak uint64) {
		t.Helper()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		before := stats.HeapInuse
		done := make(chan int, 1)
		go func() { // waited for below
			req, err := http.NewRequest(http.MethodPost, r.url+"/v1/messages", bytes.NewReader(body))
			if err != nil {
				done <- 0
				return
			}
			req.Header.Set("X-API-KEY", envKey)
			resp, err := r.client.Do(req)
			if err != nil {
				done <- 0
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			done <- resp.StatusCode
		}()
		for {
			select {
			case got := <-done:
				if got != status {
					t.Fatalf("got %d, want %d", got, status)
				}
				t.Logf("%d MiB", peak>>20)
				return peak
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&stats)
				peak = max(peak, stats.HeapInuse-min(before, stats.HeapInuse))
			}
		}
	}
	ones := append(bytes.Repeat([]byte("1,"), 4<<20-2), '1', ']')
	if peak := measure(append([]byte("["), ones...), http.StatusBadRequest); peak > 8<<20 {
		t.Errorf("8 MiB of [1,1,…] take %d MiB", peak>>20)
	}
	var honest bytes.Buffer
	for i := range 99_000 {
		fmt.Fprintf(&honest, `,{"channel":"orders.eu","data":{"n":%d,"text":"some data"}}`, i)
	}
	honest.WriteByte(']')
	body := append([]byte("["), honest.Bytes()[1:]...)
	// The test's own copy of the body, and NATS, are in this process, too.
	if peak := measure(body, http.StatusOK); peak > 90<<20 {
		t.Errorf("99,000 messages of %d MiB take %d MiB", len(body)>>20, peak>>20)
	}
}

// The first fault ends a request, long before its body has arrived.
func TestFirstFaultEndsTheRequest(t *testing.T) {
	r := start(t, startNATS(t))
	rest := &heldBack{answered: make(chan struct{})}
	body := io.MultiReader(strings.NewReader(`[{"channel":"a","data":1},{"channel":"a..b","data":1}`),
		io.LimitReader(endless(`,{"channel":"a","data":1}`), 1<<20), rest)
	p := r.do(http.MethodPost, "/v1/messages", body, "Content-Type: application/json").problem(t,
		proto.ProblemInvalidMessage)
	if p.Pointer != "/1/channel" {
		t.Errorf("pointer: got %q", p.Pointer)
	}
	close(rest.answered)
	if rest.inVain.Load() {
		t.Error("the answer came after the end of the body")
	}
	r.nothingStored()
}

// endless repeats a text.
type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n+len(e) <= len(p) {
		n += copy(p[n:], e)
	}
	if n == 0 {
		return copy(p, e[:min(len(p), len(e))]), nil
	}
	return n, nil
}

// What a request stores is bounded by its data times its channels, not only by
// the bytes that it has.
func TestDataTimesChannels(t *testing.T) {
	r := start(t, startNATS(t), func(c *Config, _ *Deps) { c.MaxRequestBytes = 1 << 20 })
	channels := `"` + strings.Join(numbered(100), `","`) + `"`
	item := `{"channels":[` + channels + `],"data":"` + strings.Repeat("x", 8000) + `"}`
	if p := r.post("/v1/messages", "["+item+","+item+"]").problem(t, proto.ProblemTooLarge); p.Pointer != "/1" ||
		!strings.Contains(p.Detail, "counted per channel") {
		t.Errorf("array: got %+v", p)
	}
	larger := strings.Replace(item, `"data":"`, `"data":"`+strings.Repeat("x", 4000), 1)
	r.post("/v1/messages", larger).problem(t, proto.ProblemTooLarge)
	r.nothingStored()
	r.post("/v1/messages", "["+item+"]").results(t, http.StatusOK)
}

// A publication is bounded as it is written, too: what surrounds the data is not
// read without end.
func TestPublicationTooLong(t *testing.T) {
	r := start(t, startNATS(t))
	var keys strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&keys, `,"k%d":0`, i)
	}
	long := `{"channel":"a","data":1` + keys.String() + `}`
	r.post("/v1/messages", long).problem(t, proto.ProblemTooLarge)
	if p := r.post("/v1/messages", `[{"channel":"a","data":1},`+long+"]").problem(t,
		proto.ProblemTooLarge); p.Pointer != "/1" {
		t.Errorf("pointer: got %q, want /1", p.Pointer)
	}
	r.nothingStored()
}

// An array, and a message for many channels, are charged with all their
// messages, or refused; and what was refused counts.
func TestRateOfArrays(t *testing.T) {
	r := start(t, startNATS(t))
	key := func(name string, rate float64) string {
		return "X-API-KEY: " + addKey(t, name, keystore.Options{Channels: []string{">"}, Rate: rate}, r)
	}
	over := func(what string, a answered, words string) {
		t.Helper()
		p := a.problem(t, proto.ProblemTooManyRequests)
		if a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, words) {
			t.Errorf("%s: got %q, Retry-After %q", what, p.Detail, a.header.Get("Retry-After"))
		}
	}
	array := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"channel":"a","data":1},`, n), ",") + "]"
	}
	one := key("one", 1)
	over("an array", r.post("/v1/messages", array(1000), one), "more messages, counted per channel, than the 1 ")
	two := key("two", 2)
	over("channels", r.post("/v1/messages", `{"channels":["a","b","c"],"data":1}`, two), "than the 2 ")
	slow := key("slow", 0.001)
	r.post("/v1/messages", `nope`, slow).problem(t, proto.ProblemInvalidJSON)
	over("after a refused one", r.post("/v1/messages", array(1), slow), "used up")
	hundred := key("hundred", 100)
	p := array(99)
	p = p[:len(p)-1] + `,{"data":1}]`
	r.post("/v1/messages", p, hundred).problem(t, proto.ProblemInvalidMessage)
	var again answered
	natstest.Eventually(t, time.Minute, "the next comes before the key has a hundred more", func() bool {
		again = r.post("/v1/messages", p, hundred)
		return again.status == http.StatusTooManyRequests
	})
	over("after a refused array", again, "used up")
	r.nothingStored()
	r.post("/v1/messages", array(100), key("whole", 100)).results(t, http.StatusOK)
}

// Lines that are refused count against the rate, too.
func TestRateOfRefusedLines(t *testing.T) {
	r := start(t, startNATS(t))
	key := "X-API-KEY: " + addKey(t, "slow", keystore.Options{Channels: []string{">"}, Rate: 20}, r)
	begin := time.Now()
	_, done := r.post("/v1/messages", strings.Repeat("nope\n", 30), ndjson, key).lines(t)
	if took := time.Since(begin); took < 400*time.Millisecond || done == nil || done.Failed != 30 {
		t.Errorf("30 wrong lines at 20 a second took %s, end %+v", took, done)
	}
}
