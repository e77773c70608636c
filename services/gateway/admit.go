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
	named    bool // in the URL; false: channels is what a client gets that names none
	// subscribe is what would stand in subscribe frames, which not every client can send:
	// a refusal of one does not end the connection.
	subscribe []proto.ClientFrame
	since     string
	token     string
	refused   *refusal // what check found; nil: nothing
	judged    *rules   // those in effect when the page was let in
	// greet words the welcome of a dialect that says it only when the client has got
	// everything that it missed: Resumed says whether it has, and ID is where it is live. It
	// is called in the shard's goroutine. Nil: wording.welcome comes first.
	greet func(proto.Welcome) []byte
}

// parseRequest reads the URL. What it does not know is an error, since a client
// that misspells a name would follow something else than it asked for.
func (s *Service) parseRequest(r *http.Request, p page) (*request, error) {
	req := &request{channels: []string{}, judged: p.judged} // not nil: welcome says [], not null
	q, err := httpx.Query(r, []string{"channel", "subscribe"}, "since", "lastEventId", "token")
	if err != nil {
		return req, err
	}
	if req.token, err = s.tokenOf(r, q, p); err != nil {
		return req, err
	}
	if n := len(q["channel"]) + len(q["subscribe"]); n > proto.MaxChannels {
		return req, fmt.Errorf("%d channels in the URL, at most %d are allowed; subscribe frames take more", n,
			proto.MaxChannels)
	}
	for _, c := range q["channel"] {
		if c != "" && !slices.Contains(req.channels, c) {
			req.channels = append(req.channels, strings.Clone(c))
		}
	}
	for _, s := range q["subscribe"] {
		req.subscribe = append(req.subscribe, parseSubscribe(strings.Clone(s)))
	}
	req.named = q.Has("channel") || q.Has("subscribe")
	if !req.named {
		req.channels = append(req.channels, proto.Broadcast)
	}
	// The newest first: an EventSource that comes back keeps the since in its
	// URL, and says where it got to in the header, or, if it is a polyfill that
	// spares itself the preflight, in a parameter of the same name.
	for _, id := range []string{r.Header.Get("Last-Event-ID"), q.Get("lastEventId"), q.Get("since")} {
		if id != "" {
			req.since = strings.Clone(id)
			break
		}
	}
	return req, nil
}

// parseSubscribe reads the value of a subscribe parameter: CHANNEL, or
// CHANNEL@SINCE. A channel may have an @ in it, a since has none. Whether both
// are well-formed is seen where the subscription is made.
func parseSubscribe(value string) proto.ClientFrame {
	f := proto.ClientFrame{Type: proto.FrameSubscribe, Channel: value}
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		f.Channel, f.Since = value[:i], value[i+1:]
	}
	return f
}

func (s *Service) newSession(r *http.Request, p page, words *wording) *session {
	asked, err := s.parseRequest(r, p)
	c := &session{s: s, asked: asked, words: words}
	c.followed = c.first[:0]
	c.agent, c.page = s.answers.agents.number(r.UserAgent()), s.pages.number(p)
	c.asked.refused = crowded(r) // first: what cannot stay costs no signature
	switch {
	case c.asked.refused != nil:
	case err != nil:
		c.asked.refused = &refusal{code: proto.CloseBadRequest, err: err}
	default:
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
		return &refusal{code: tokenCode(err), err: err}
	}
	for _, name := range c.asked.channels {
		if err := proto.CheckPattern(name); err != nil {
			return &refusal{code: proto.CloseBadRequest, err: err}
		}
		if !c.may(name) {
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

// tokenCode is the goodbye for an error of Verify: to come back where it passes
// by itself.
func tokenCode(err error) proto.CloseCode {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return proto.CloseTokenExpired
	case errors.Is(err, auth.ErrEarly):
		return proto.CloseTokenEarly
	case errors.Is(err, auth.ErrKeys):
		return proto.CloseOverload
	default:
		return proto.CloseTokenInvalid
	}
}

func (c *session) authenticate() error {
	if c.asked.token == "" {
		c.anonymous = true
		c.who.Store(anybody)
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

// adopt makes the principal of a token the session's.
func (c *session) adopt(p *auth.Principal) {
	c.anonymous = false
	c.who.Store(p)
}

// may says whether the client may follow a channel or pattern: by its token, or
// because anybody may. Clients of an app have the app's channels alone.
func (c *session) may(name string) bool {
	return c.principal().May(name) || c.app == nil && c.s.rules.Load().anonymous.May(name)
}

func (c *session) forbidden(name string) error {
	if c.anonymous {
		return fmt.Errorf("%q needs a token; without one you may follow %s", name,
			strings.Join(c.s.rules.Load().anonymous.Channels, ", "))
	}
	return fmt.Errorf("your token does not cover %q", name)
}
