package admin

import (
	"net/http"
	"strconv"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
)

// list is the answer of every call that gives a page of rows.
type list[R any] struct {
	Rows    []R      `json:"rows"`
	Next    string   `json:"next"` // empty: no more
	Total   int      `json:"total"`
	Matched int      `json:"matched"`
	Silent  []string `json:"silent"`
}

// getConnections is a page of the connections of all gateways, or of one: each gateway gives its part of the page.
func (s *Service) getConnections(w http.ResponseWriter, r *http.Request, _ *call) error {
	values, err := httpx.Query(r, nil, "q", "user", "address", "protocol", "channel", "gateway", "sort", "limit",
		"cursor")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	q := ask.ConnectionsQuestion{
		Text: values.Get("q"), User: values.Get("user"), Address: values.Get("address"),
		Protocol: values.Get("protocol"),
		Channel:  values.Get("channel"), Sort: values.Get("sort"), Cursor: values.Get("cursor"),
	}
	if q.Limit, err = readLimit(values.Get("limit")); err != nil {
		return err
	}
	order, err := ask.ParseOrder(q.Sort, ask.ConnectionOrders...)
	if err != nil {
		return askProblem(err)
	}
	var answers []ask.From[ask.ConnectionsPage]
	var silent []string
	if gateway := values.Get("gateway"); gateway != "" {
		page, err := one[ask.ConnectionsPage](r.Context(), s, ask.Gateway, gateway, ask.Connections, q)
		if err != nil {
			return err
		}
		answers = append(answers, ask.From[ask.ConnectionsPage]{Instance: gateway, Answer: page})
	} else if answers, silent, err = all[ask.ConnectionsPage](r.Context(), s, ask.Gateway, ask.Connections,
		q); err != nil {
		return err
	}
	out := list[ask.Connection]{Silent: sentences(silent)}
	parts := make([]ask.Part[ask.Connection], len(answers))
	for i, a := range answers {
		out.Total += a.Answer.Total
		out.Matched += a.Answer.Matched
		parts[i] = ask.Part[ask.Connection]{Rows: a.Answer.Rows, More: a.Answer.Next != ""}
	}
	out.Rows, out.Next = ask.Merge(order, q.Limit, func(c *ask.Connection) ask.Key { return c.Key(order.By) }, parts)
	httpx.WriteJSON(w, http.StatusOK, out)
	return nil
}

// readLimit reads how many rows a page is to have. Errors are problems.
func readLimit(v string) (int, error) {
	n := 0
	if v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 {
			n = -1
		}
	}
	limit, err := ask.Limit(n)
	return limit, askProblem(err)
}

// kickRequest is the body of the calls that close connections.
type kickRequest struct {
	User    string `json:"user"`
	Address string `json:"address"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
}

// postKick closes one connection.
func (s *Service) postKick(w http.ResponseWriter, r *http.Request, c *call) error {
	var body kickRequest
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.User != "" || body.Address != "" {
		return problemInvalid.With("user and address belong to api/kick; the connection stands in the path")
	}
	gateway, err := pathParam(r, "gateway")
	if err != nil {
		return err
	}
	id, err := pathParam(r, "id")
	if err != nil {
		return err
	}
	q := ask.KickQuestion{ID: id, Code: codeOr(body.Code), By: c.user, Reason: body.Reason}
	return s.kick(w, r, c, "connection "+id, q, func() (ask.KickAnswer, []string, error) {
		got, err := one[ask.KickAnswer](r.Context(), s, ask.Gateway, gateway, ask.Kick, q)
		if err == nil && got.Kicked == 0 {
			err = proto.ProblemNotFound.With("the connection " + id + " is gone")
		}
		return got, nil, err
	})
}

// postKickMany closes all connections of a user or an address, on all gateways.
func (s *Service) postKickMany(w http.ResponseWriter, r *http.Request, c *call) error {
	var body kickRequest
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if (body.User == "") == (body.Address == "") {
		return problemInvalid.With("want one of user and address")
	}
	q := ask.KickQuestion{User: body.User, Address: body.Address, Code: codeOr(body.Code), By: c.user,
		Reason: body.Reason}
	target := "user " + body.User
	if body.User == "" {
		target = "address " + body.Address
	}
	return s.kick(w, r, c, target, q, func() (sum ask.KickAnswer, silent []string, err error) {
		answers, silent, err := all[ask.KickAnswer](r.Context(), s, ask.Gateway, ask.Kick, q)
		for _, a := range answers {
			sum.Kicked += a.Answer.Kicked
		}
		return sum, silent, err
	})
}

// codeOr is the code that is asked for, or kicked where none is.
func codeOr(code int) int {
	if code == 0 {
		return int(proto.CloseKicked)
	}
	return code
}

// kick has connections closed, and answers. At gateways that did not answer some may be left.
func (s *Service) kick(w http.ResponseWriter, r *http.Request, c *call, target string, q ask.KickQuestion,
	do func() (got ask.KickAnswer, silent []string, err error)) error {
	var answer struct {
		ask.KickAnswer
		Silent []string `json:"silent,omitempty"`
	}
	what := intent{action: "kick", target: target, after: map[string]any{"code": q.Code, "reason": q.Reason}}
	err := s.act(r.Context(), c, what, func() (any, error) {
		var err error
		if answer.KickAnswer, answer.Silent, err = do(); err != nil {
			return nil, err
		}
		after := map[string]any{"code": q.Code, "reason": q.Reason, "kicked": answer.Kicked}
		if len(answer.Silent) > 0 {
			after["silent"] = answer.Silent
		}
		return after, nil
	})
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, answer)
	return nil
}
