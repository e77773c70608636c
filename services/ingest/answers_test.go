package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// told asks this ingest, and waits until it answers.
func told[A any](r *rig, c *ask.Client, what string, question any) (a A) {
	r.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if a, err = ask.One[A](r.Context(), c, ask.Ingest, r.answers.process.Instance, what, question); err == nil {
			return a
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s %+v: %v", what, question, err)
		}
	}
}

func (r *rig) asker(server *natstest.Server) *ask.Client {
	r.Helper()
	c, err := ask.NewClient(server.Connect())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(c.Close)
	return c
}

// Two ingests say what they have accepted: each knows its own messages, and how they came, if somebody asked before.
func TestAnswers(t *testing.T) {
	server := startNATS(t)
	a, b := start(t, server), start(t, server)
	c := a.asker(server)
	id := func(r *rig, body string) string {
		t.Helper()
		got := r.post("/v1/messages", body)
		var one proto.Result
		if err := json.Unmarshal([]byte(got.body), &one); err != nil || got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		return one.ID
	}
	early := id(a, `{"channel":"a","data":1}`)
	if p := told[ask.IngestPath](a, c, ask.MessagePath, ask.PathQuestion{ID: early}); p.Known || p.Since == nil {
		t.Errorf("of before anybody asked: got %+v", p)
	}
	told[ask.IngestPath](b, c, ask.MessagePath, ask.PathQuestion{})
	mine, theirs := id(a, `{"channel":"a","data":2}`), id(b, `{"channel":"a","data":3}`)
	if p := told[ask.IngestPath](a, c, ask.MessagePath, ask.PathQuestion{ID: mine}); !p.Known || p.Request == "" ||
		p.Address != "127.0.0.1" || time.Since(p.Time) > time.Minute {
		t.Errorf("got %+v", p)
	}
	if p := told[ask.IngestPath](a, c, ask.MessagePath, ask.PathQuestion{ID: theirs}); p.Known {
		t.Errorf("of the other's: got %+v", p)
	}
	a.answers.watch.Off()
	if p := told[ask.IngestPath](a, c, ask.MessagePath, ask.PathQuestion{ID: mine}); p.Known {
		t.Errorf("after nobody asked for long: got %+v", p)
	}
	stats := told[ask.IngestStats](a, c, ask.Stats, nil)
	if !stats.Ready || stats.Published != 2 || stats.Ack.Count != 2 || stats.Pending != 0 || stats.Stream == nil ||
		stats.MaxBytes != int64(a.cfg.StreamMaxBytes) || stats.MaxAge <= 0 {
		t.Errorf("stats: got %+v", stats)
	}
	if other := told[ask.IngestStats](b, c, ask.Stats, nil); other.Published != 1 || other.Lane == stats.Lane ||
		stats.Lane == "" {
		t.Errorf("the other's stats: got %+v", other)
	}
}

// Why a request was refused is told, without keys.
func TestRefusalsAnswered(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	c := r.asker(server)
	const wrong = "hk_wrongwrongwrongwrong"
	r.post("/v1/messages", `{}`, "X-API-KEY: "+wrong)
	r.post("/v1/channels/a", `{}`, "X-API-KEY:")
	r.post("/v1/messages", `{"channel":"a..b","data":1}`)
	r.post("/notify", `{}`)
	answer := told[ask.RefusalsAnswer](r, c, ask.Refusals, nil)
	var got []string
	for _, f := range answer.Rows {
		got = append(got, fmt.Sprint(f.Reason, " ", f.Status, " ", f.Address, " ", f.Path))
		if f.Request == "" || f.Detail == "" || f.Service != "ingest" {
			t.Errorf("got %+v", f)
		}
	}
	want := []string{"invalid-message 400 127.0.0.1 /notify", "invalid-message 400 127.0.0.1 /v1/messages",
		"unauthorized 401 127.0.0.1 /v1/channels/a", "unauthorized 401 127.0.0.1 /v1/messages"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if b, err := json.Marshal(answer); err != nil || strings.Contains(string(b), wrong) ||
		strings.Contains(string(b), envKey) {
		t.Errorf("a key is told: %s", b)
	}
}
