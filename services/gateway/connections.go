package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/ask"
)

const (
	// pageBytes is how much of an answer rows may take.
	pageBytes = ask.MaxAnswer - 4<<10
	// shownChannels is how many channels of a connection a row names.
	shownChannels = 10
)

// connections answers with a page of connections: what is asked for, in the order asked for. It goes over all of them
// and keeps one page.
func (a *answers) connections(ctx context.Context, q ask.ConnectionsQuestion) (out ask.ConnectionsPage, err error) {
	w, err := readWanted(a, q)
	if err != nil {
		return out, err
	}
	order, err := ask.ParseOrder(q.Sort, ask.ConnectionOrders...)
	if err != nil {
		return out, err
	}
	after, err := order.After(q.Cursor)
	if err != nil {
		return out, err
	}
	limit, err := ask.Limit(q.Limit)
	if err != nil {
		return out, err
	}
	top := ask.NewTop[ask.Connection](order, after, limit)
	err = a.s.hub.Look(ctx, func(seen *hub.Seen) {
		c := sessionOf(seen)
		if c == nil {
			return
		}
		out.Total++
		if !w.matches(c, seen) {
			return
		}
		out.Matched++
		row := a.row(c, seen, order.By)
		if k := row.Key(order.By); top.Wants(k) {
			a.complete(&row, c, seen)
			top.Add(k, row)
		}
	})
	if err != nil {
		return out, err
	}
	out.Rows, out.Next, err = top.Page(pageBytes)
	return out, err
}

// sessionOf is the session of a client that was let in; nil: it was not.
func sessionOf(seen *hub.Seen) *session {
	if c, ok := seen.Sink.(*session); ok && c.since != 0 {
		return c
	}
	return nil
}

// user is the subject of the client's token; empty: it has none, or has not said yet who it is.
func (c *session) user() string {
	p := c.principal()
	if p == nil || c.app != nil { // clients of an app are all the same principal
		return ""
	}
	return p.Name
}

// row has what a connection is sorted by: all members that cost no memory, and by.
func (a *answers) row(c *session, seen *hub.Seen, by string) ask.Connection {
	state := c.conn.State()
	row := ask.Connection{
		ID: c.conn.ID(), User: c.user(), ChannelCount: seen.Subscriptions(), Since: a.time(c.since),
		QueuedBytes: state.Queued, SentBytes: state.Bytes, SentMessages: state.Messages,
	}
	if by == "address" {
		row.Address = addressText(c.conn.Remote())
	}
	return row
}

// complete fills in the rest.
func (a *answers) complete(row *ask.Connection, c *session, seen *hub.Seen) {
	row.Gateway, row.Address, row.Protocol = a.process.Instance, addressText(c.conn.Remote()), c.conn.Protocol()
	row.Agent = a.agents.name(c.agent)
	if a.s.feed.started.Load() {
		row.LastID = c.id(seen.UpTo)
	}
	row.Channels = make([]string, min(row.ChannelCount, shownChannels)) // not nil: [] in JSON
	for i := range row.Channels {
		row.Channels[i] = seen.Name(i)
	}
}

// wanted is what connections are asked for.
type wanted struct {
	ask.ConnectionsQuestion
	a       *answers
	address netip.Prefix // not valid: any
	pattern bool         // Channel is one
}

// readWanted reads a question. Errors are refusals.
func readWanted(a *answers, q ask.ConnectionsQuestion) (w wanted, err error) {
	w = wanted{ConnectionsQuestion: q, a: a, pattern: proto.IsPattern(q.Channel)}
	if w.address, err = ask.ParseAddress(q.Address); err != nil {
		return w, err
	}
	if q.Channel != "" {
		if err := proto.CheckPattern(q.Channel); err != nil {
			return w, ask.Refuse(http.StatusBadRequest, "channel: %v", err)
		}
	}
	if q.Protocol != "" && pathOf[q.Protocol] == "" {
		return w, ask.Refuse(http.StatusBadRequest, "protocol: want websocket, sse, socketio or pusher, not %.40q",
			q.Protocol)
	}
	return w, nil
}

func (w *wanted) matches(c *session, seen *hub.Seen) bool {
	switch {
	case w.User != "" && c.user() != w.User,
		w.Protocol != "" && c.conn.Protocol() != w.Protocol,
		w.address.IsValid() && !w.address.Contains(c.conn.Remote()),
		w.Channel != "" && !w.follows(seen),
		w.Text != "" && !w.mentions(c, seen):
		return false
	}
	return true
}

// follows reports whether the client gets messages of the channel, or follows a channel that the pattern matches.
func (w *wanted) follows(seen *hub.Seen) bool {
	for i := range seen.Subscriptions() {
		name := seen.Name(i)
		switch {
		case name == w.Channel, !w.pattern && proto.Match(name, w.Channel),
			w.pattern && !proto.IsPattern(name) && proto.Match(w.Channel, name):
			return true
		}
	}
	return false
}

func (w *wanted) mentions(c *session, seen *hub.Seen) bool {
	for _, text := range []string{c.conn.ID(), c.user(), addressText(c.conn.Remote())} {
		if strings.Contains(text, w.Text) {
			return true
		}
	}
	for i := range seen.Subscriptions() {
		if strings.Contains(seen.Name(i), w.Text) {
			return true
		}
	}
	return strings.Contains(w.a.agents.name(c.agent), w.Text)
}

// meant reports whether the question is about this client.
func (c *session) meant(q ask.KickQuestion, address netip.Prefix) bool {
	return q.ID != "" && c.conn.ID() == q.ID || q.User != "" && c.user() == q.User ||
		address.IsValid() && address.Contains(c.conn.Remote())
}

// maxReasonText bounds what an operator tells a client.
const maxReasonText = 200

// kick closes the connections that are asked for, and tells them why, where their protocol has words for it.
func (a *answers) kick(ctx context.Context, q ask.KickQuestion) (out ask.KickAnswer, err error) {
	code := proto.CloseCode(q.Code)
	if code != proto.CloseKicked && code != proto.CloseReconnect {
		return out, ask.Refuse(http.StatusUnprocessableEntity, "code: want %d (%s: stay away) or %d (%s: come "+
			"back), not %d", proto.CloseKicked, proto.CloseKicked, proto.CloseReconnect, proto.CloseReconnect, q.Code)
	}
	address, err := ask.ParseAddress(q.Address)
	if err != nil {
		return out, err
	}
	if len(q.Reason) > maxReasonText || !utf8.ValidString(q.Reason) ||
		strings.ContainsFunc(q.Reason, unicode.IsControl) {
		return out, ask.Refuse(http.StatusUnprocessableEntity, "reason: at most %d bytes of text, in one line",
			maxReasonText)
	}
	n := 0
	for _, which := range []bool{q.ID != "", q.User != "", q.Address != ""} {
		if which {
			n++
		}
	}
	if n != 1 {
		return out, ask.Refuse(http.StatusUnprocessableEntity, "want one of id, user and address, not %d of them", n)
	}
	var found []*session
	err = a.s.hub.Look(ctx, func(seen *hub.Seen) {
		if c := sessionOf(seen); c != nil && c.meant(q, address) {
			found = append(found, c)
			// In the shard, and of one that follows something, the client's words do not change.
			if q.Reason != "" && seen.Subscriptions() > 0 {
				c.pushControl(complaint(code.String(), "", errors.New(q.Reason)))
			}
		}
	})
	if err != nil {
		return out, err
	}
	for _, c := range found {
		if c.conn.Reason() != 0 { // it is closing, or was seen twice
			continue
		}
		c.conn.Close(code)
		out.Kicked++
		a.s.log.Info("an operator closed a connection", "conn", c.conn.ID(), "remote", c.conn.Remote(),
			"code", code.String(), "by", q.By, "reason", q.Reason)
	}
	return out, nil
}
