package ingest

import (
	"bytes"
	"context"
	"net"
	"net/http"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
)

// publishForConsole publishes what somebody sends from the console, which has made
// sure that this one may. It goes the way of POST /v1/messages, with the same
// rules and answers, and may publish to every channel.
func (s *Service) publishForConsole(ctx context.Context, q ask.PublishQuestion) (ask.HTTPAnswer, error) {
	if err := proto.CheckName(q.Sender); err != nil {
		return ask.HTTPAnswer{}, ask.Refuse(http.StatusBadRequest, "sender: %v", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/v1/messages", bytes.NewReader(q.Body))
	if err != nil {
		return ask.HTTPAnswer{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = net.JoinHostPort(q.Address, "0")
	g := auth.NewGrant(&auth.Principal{Name: q.Sender, Channels: []string{">"}, Scopes: []auth.Scope{auth.Publish}},
		q.Sender, nil)
	router := httpx.NewRouter(s.log)
	router.Post("/v1/messages", s.count("console", s.traced("/v1/messages",
		func(w http.ResponseWriter, r *http.Request) {
			err := s.started()
			if err != nil {
				err = proto.ProblemUnavailable.With(err.Error())
			} else {
				err = s.postMessages(w, r, g)
			}
			if err != nil {
				s.writeProblem(w, r, err)
			}
		})))
	return ask.Record(router, r), nil
}
