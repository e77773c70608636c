package ingest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// What the console publishes has the rules and answers of POST /v1/messages, and is
// published once, however many ingests there are.
func TestPublishForConsole(t *testing.T) {
	server := startNATS(t)
	a, b := start(t, server), start(t, server)
	c := a.asker(server)
	publish := func(sender, body string) (ask.HTTPAnswer, error) {
		return ask.Any[ask.HTTPAnswer](t.Context(), c, ask.Ingest, ask.Publish, ask.PublishQuestion{Body: []byte(body),
			Sender: sender, Address: "203.0.113.7"}, time.Minute)
	}
	natstest.Eventually(t, 30*time.Second, "an ingest answers", func() bool {
		_, err := publish("console:anna", `{}`)
		return err == nil
	})
	answer, err := publish("console:anna",
		`{"channel":"orders.eu","event":"made","data":{"n":12345678901234567890.10}}`)
	var result proto.Result
	if err != nil || answer.Status != http.StatusOK || json.Unmarshal(answer.Body, &result) != nil || result.ID == "" ||
		answer.Header["Content-Type"] != "application/json" {
		t.Fatalf("got %d %s %v, %v", answer.Status, answer.Body, answer.Header, err)
	}
	if n := a.storedMessages() + b.storedMessages(); n != 1 {
		t.Errorf("stored %v times", n)
	}
	history := a.get("orders.eu", "").body
	for _, want := range []string{`"sender":"console:anna"`, `12345678901234567890.10`, `"event":"made"`} {
		if !strings.Contains(history, want) {
			t.Errorf("history lacks %s: %s", want, history)
		}
	}
	if answer, err = publish("console:anna",
		`[{"channel":"a","data":1},{"channels":["b","c"],"data":2}]`); err != nil ||
		answer.Status != http.StatusOK || strings.Count(string(answer.Body), `"stored"`) != 3 {
		t.Errorf("an array: got %d %s, %v", answer.Status, answer.Body, err)
	}
	if answer, err = publish("console:anna", `{"channel":"a","data":1,"ephemeral":true}`); err != nil ||
		answer.Status != http.StatusAccepted {
		t.Errorf("ephemeral: got %d %s, %v", answer.Status, answer.Body, err)
	}
	for body, want := range map[string]string{
		`{`: "invalid-json", `{"channel":"a..b","data":1}`: "invalid-message", `{"channel":"a"}`: "invalid-message",
		`{"channel":"a","data":1,"x":1}`:                                              "invalid-message",
		`{"channel":"a","data":"` + strings.Repeat("x", proto.MaxMessageBytes) + `"}`: "too-large",
	} {
		answer, err := publish("console:anna", body)
		var p proto.Problem
		if err != nil || json.Unmarshal(answer.Body, &p) != nil || p.Type != "urn:herald:problem:"+want ||
			p.Request == "" || answer.Header["Content-Type"] != "application/problem+json" {
			t.Errorf("%.60s: got %d %s, %v; want %s", body, answer.Status, answer.Body, err, want)
		}
	}
	if _, err := publish(`a"b`, `{"channel":"a","data":1}`); err == nil {
		t.Error("a sender that is no name was taken")
	}
}
