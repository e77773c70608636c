package ingest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
)

// The idempotency key counts per API key name and channel.
func TestIdempotency(t *testing.T) {
	r := start(t, startNATS(t))
	shop := addKey(t, "shop", keystore.Options{Channels: []string{">"}}, r)
	message := func(channel string) string { return `{"channel":"` + channel + `","data":1,"id":"k"}` }
	first := r.post("/v1/messages", message("a")).result(t, http.StatusOK)
	again := r.post("/v1/messages", message("a")).result(t, http.StatusOK)
	if want := (proto.Result{Status: proto.StatusDuplicate, ID: first.ID, Channel: "a"}); again != want {
		t.Errorf("second time: got %+v, want %+v", again, want)
	}
	// The same key by other ways.
	for _, a := range []answered{
		r.post("/v1/messages", `{"channel":"a","data":1}`, "Idempotency-Key: k"),
		r.post("/v1/channels/a", `1`, "Idempotency-Key: k"),
		// The id of the message goes before the header.
		r.post("/v1/messages", `{"channel":"a","data":1,"id":"k"}`, "Idempotency-Key: other"),
	} {
		if res := a.result(t, http.StatusOK); res.Status != proto.StatusDuplicate || res.ID != first.ID {
			t.Errorf("same key: got %+v, want a duplicate of %s", res, first.ID)
		}
	}
	// Another channel, another sender, another key: other messages.
	for _, a := range []answered{
		r.post("/v1/messages", message("b")),
		r.post("/v1/messages", message("a"), "X-API-KEY: "+shop),
		r.post("/v1/messages", `{"channel":"a","data":1}`, "Idempotency-Key: K"),
		r.post("/v1/messages", `{"channel":"a","data":1}`),
	} {
		if res := a.result(t, http.StatusOK); res.Status != proto.StatusStored {
			t.Errorf("another key: got %+v, want stored", res)
		}
	}
	if n := len(stored(t, r.nc)); n != 5 {
		t.Errorf("stored: got %d messages, want 5", n)
	}
}

// In an array the header's key is extended by each message's place, and a
// retry of the whole request stores nothing twice.
func TestIdempotencyOfArrays(t *testing.T) {
	r := start(t, startNATS(t))
	body := `[{"channel":"a","data":1},{"channel":"a","data":2},{"channels":["a","b"],"data":3},{"channel":"a",` +
		`"data":4,"id":"own"}]`
	first := r.post("/v1/messages", body, "Idempotency-Key: batch").results(t, http.StatusOK)
	again := r.post("/v1/messages", body, "Idempotency-Key: batch").results(t, http.StatusOK)
	for i := range first {
		if first[i].Status != proto.StatusStored || again[i].Status != proto.StatusDuplicate ||
			again[i].ID != first[i].ID {
			t.Errorf("place %d: got %+v, then %+v", i, first[i], again[i])
		}
	}
	// A key that looks like an extended one is another key.
	if res := r.post("/v1/messages", `{"channel":"a","data":1,"id":"batch0"}`).result(t,
		http.StatusOK); res.Status != proto.StatusStored {
		t.Errorf("look-alike: got %+v, want stored", res)
	}
	if n := len(stored(t, r.nc)); n != 6 {
		t.Errorf("stored: got %d messages, want 6", n)
	}
}

// A wrong idempotency key in the header is a wrong parameter, and an empty one is no key that could be left out.
func TestIdempotencyHeader(t *testing.T) {
	r := start(t, startNATS(t))
	for _, key := range []string{"", "a b", strings.Repeat("k", 129), "ü"} {
		r.post("/v1/messages", `{"channel":"a","data":1}`, "Idempotency-Key: "+key).problem(t,
			proto.ProblemInvalidParameter)
		r.post("/v1/channels/a", `1`, "Idempotency-Key: "+key).problem(t, proto.ProblemInvalidParameter)
		r.post("/v1/messages", `{"channel":"a","data":1}`, "Content-Type: application/x-ndjson", "Idempotency-Key: "+
			key).problem(t, proto.ProblemInvalidParameter)
	}
}
