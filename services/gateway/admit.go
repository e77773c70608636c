package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
)

// request is what a client asked for in its URL: copies, so that nothing of
// the HTTP request lives on.
type request struct {
	channels []string
	since    string
	token    string
	refused  *refusal // what check found; nil: nothing
}

func parseRequest(r *http.Request) *request {
	q := r.URL.Query()
	req := &request{since: strings.Clone(q.Get("since")), token: strings.Clone(q.Get("token"))}
	req.channels = []string{}                          // not nil: welcome says [], not null
	if n := len(q["channel"]); n > proto.MaxChannels { // before they are compared with each other
		req.refused = &refusal{code: proto.CloseBadRequest, err: fmt.Errorf("%d channels in the URL, at most %d are allowed", n, proto.MaxChannels)}
		return req
	}
	for _, c := range q["channel"] {
		if c != "" && !slices.Contains(req.channels, c) {
			req.channels = append(req.channels, strings.Clone(c))
		}
	}
	if !q.Has("channel") {
		req.channels = append(req.channels, proto.Broadcast)
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		req.since = strings.Clone(id) // newer than what stands in the URL of an EventSource that came back
	}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && req.token == "" {
		req.token = strings.Clone(bearer)
	}
	return req
}

func (s *Service) newSession(r *http.Request, words *wording) *session {
	c := &session{s: s, asked: parseRequest(r), words: words}
	c.followed = c.first[:0]
	if refused := crowded(r); refused != nil { // first: what cannot stay costs no signature
		c.asked.refused = refused
	} else if c.asked.refused == nil {
		c.asked.refused = c.check()
	}
	return c
}

// refusal is why a client is not let in.
type refusal struct {
	code    proto.CloseCode
	channel string // the one that is meant; empty: none
	err     error
}

// crowded says that there is no room for another connection; nil: there is.
func crowded(r *http.Request) *refusal {
	p := httpx.Refused(r)
	if p == nil {
		return nil
	}
	code := proto.CloseOverload
	if p.Status == http.StatusTooManyRequests {
		code = proto.CloseTooManyConnections
	}
	return &refusal{code: code, err: errors.New(p.Detail)}
}

// check says what is wrong with who the client is or with what it asks for in
// its URL; nil: nothing. It needs no connection yet.
func (c *session) check() *refusal {
	if err := c.authenticate(); err != nil {
		if errors.Is(err, auth.ErrExpired) {
			return &refusal{code: proto.CloseTokenExpired, err: err}
		}
		return &refusal{code: proto.CloseTokenInvalid, err: err}
	}
	for _, name := range c.asked.channels {
		if err := proto.CheckPattern(name); err != nil {
			return &refusal{code: proto.CloseBadRequest, err: err}
		}
		if !c.principal.May(name) {
			return &refusal{code: proto.CloseForbidden, channel: name, err: c.forbidden(name)}
		}
	}
	switch c.asked.since {
	case "", proto.SinceAll, proto.SinceLast:
	default:
		if _, err := proto.ParseCursor(c.asked.since); err != nil {
			return &refusal{code: proto.CloseBadRequest, err: fmt.Errorf("since: %w", err)}
		}
	}
	return nil
}

func (c *session) authenticate() error {
	if c.asked.token == "" {
		c.anonymous = true
		c.principal = c.s.nobody
		return nil
	}
	p, err := c.s.verifier.Verify(c.asked.token)
	if err != nil {
		return err
	}
	c.asked.token = ""
	c.adopt(p)
	return nil
}

// adopt takes on a principal: what anonymous clients may follow it may too.
func (c *session) adopt(p *auth.Principal) {
	c.anonymous = false
	c.principal = &auth.Principal{Name: p.Name, Channels: slices.Concat(p.Channels, c.s.cfg.AnonymousChannels), Expires: p.Expires}
}

func (c *session) forbidden(name string) error {
	if c.anonymous {
		return fmt.Errorf("%q needs a token; without one you may follow %s", name, strings.Join(c.principal.Channels, ", "))
	}
	return fmt.Errorf("your token does not cover %q", name)
}
