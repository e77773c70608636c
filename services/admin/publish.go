package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
)

// publishWait is how long an ingest may take: longer than it waits for NATS
// itself, so that its own answer arrives.
const publishWait = 20 * time.Second

// postPublish publishes what the body says, as POST /v1/messages does: an ingest
// checks and answers it. The sender is who has logged in.
func (s *Service) postPublish(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	body, err := httpx.ReadBody(w, r, ask.MaxPublish)
	if err != nil {
		return err
	}
	q := ask.PublishQuestion{Body: body, Sender: "console:" + c.user, Address: c.address}
	var a ask.HTTPAnswer
	target, _ := summary(body, nil)
	err = s.act(r.Context(), c, intent{action: "publish", target: target}, func() (_ any, err error) {
		a, err = ask.Any[ask.HTTPAnswer](context.WithoutCancel(r.Context()), s.ask, ask.Ingest, ask.Publish, q,
			publishWait)
		switch {
		case err != nil:
			return nil, notPublished(err)
		case a.Status >= http.StatusMultipleChoices:
			return nil, errAnswered
		}
		_, what := summary(body, a.Body)
		return what, nil
	})
	if err != nil && !errors.Is(err, errAnswered) {
		return err
	}
	writeAnswer(w, a)
	return nil
}

// errAnswered: an ingest has refused the message, and its answer says why.
var errAnswered = problemInvalid.With("ingest has refused it")

// notPublished is the problem of a message of which no ingest has told what became
// of it. Only one that no ingest has accepted is certainly not stored.
func notPublished(err error) error {
	var refused *ask.Error
	if errors.As(err, &refused) {
		return proto.ProblemUnavailable.With(refused.Text + "; nothing was published")
	}
	return proto.ProblemNotStored.With("it is not known whether the message was stored: " + err.Error() +
		"; with an idempotency id it can be sent again")
}

// writeAnswer answers with what a service has answered.
func writeAnswer(w http.ResponseWriter, a ask.HTTPAnswer) {
	for name, value := range a.Header {
		if name != ask.HeaderNext {
			w.Header().Set(name, value)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a client that hung up misses only its own answer
}

// published is what the audit has of a call that published: never the data.
type published struct {
	Messages int      `json:"messages"`
	Event    string   `json:"event,omitempty"`
	IDs      []string `json:"ids"` // the first of them
}

// maxIDs bounds the ids in a row of the audit.
const maxIDs = 10

// summary says which channels a call published to, and what became of it.
func summary(body, answer []byte) (target string, p published) {
	type message struct {
		Channel  string   `json:"channel"`
		Channels []string `json:"channels"`
		Event    string   `json:"event"`
	}
	var messages []message
	if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '[' {
		_ = json.Unmarshal(body, &messages) // ingest has understood it
	} else {
		messages = make([]message, 1)
		_ = json.Unmarshal(body, &messages[0])
	}
	var channels []string
	for _, m := range messages {
		if m.Channel != "" {
			channels = append(channels, m.Channel)
		}
		channels = append(channels, m.Channels...)
	}
	if len(messages) == 1 {
		p.Event = messages[0].Event
	}
	type result struct {
		ID string `json:"id"`
	}
	var results []result
	if answer = bytes.TrimSpace(answer); len(answer) > 0 && answer[0] == '[' {
		_ = json.Unmarshal(answer, &results)
	} else {
		results = make([]result, 1)
		_ = json.Unmarshal(answer, &results[0])
	}
	p.Messages, p.IDs = len(results), []string{}
	for _, r := range results {
		if r.ID != "" && len(p.IDs) < maxIDs {
			p.IDs = append(p.IDs, r.ID)
		}
	}
	if more := len(channels) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(channels[:3], ", "), more), p
	}
	return strings.Join(channels, ", "), p
}
