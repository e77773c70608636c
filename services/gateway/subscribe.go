package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
)

func complaint(code, channel string, err error) proto.ErrorFrame {
	return proto.ErrorFrame{Type: proto.FrameError, Code: code, Detail: err.Error(), Channel: channel}
}

func (c *session) subscribe(name, since string, answer answer) {
	c.pay(nameCost + time.Duration(c.subscriptions())*followedCost)
	if err := proto.CheckPattern(name); err != nil {
		answer(complaint(proto.ErrorBadChannel, "", err))
		return
	}
	if !c.may(name) {
		answer(complaint(proto.ErrorForbidden, name, c.forbidden(name)))
		return
	}
	if c.subscriptions() >= maxFollowed && !c.follows(name) {
		answer(complaint(proto.ErrorLimit, name,
			fmt.Errorf("a connection may have %d subscriptions; a pattern covers many channels", maxFollowed)))
		return
	}
	if !c.follows(name) {
		if r := c.hold(name); r != nil {
			answer(complaint(proto.ErrorLimit, name, r.err))
			return
		}
	}
	if since == "" {
		c.join(hub.Now, hub.Now, []string{name}, func(j hub.Joined) {
			answer(subscribed(name, false, c.id(j.Position.Seq)))
		})
		return
	}
	p, err := c.plan(since, []string{name})
	if err == nil {
		if c.words.catchingUp != nil {
			c.conn.Push(c.words.catchingUp(name))
		}
		err = c.catchUp(p, name, answer)
	}
	switch {
	case errors.Is(err, proto.ErrCursor):
		answer(complaint(proto.ErrorBadSince, name, err))
	case err != nil:
		c.failed(err)
	}
}

func subscribed(name string, resumed bool, id string) proto.Subscribed {
	return proto.Subscribed{Type: proto.FrameSubscribed, Channel: name, Resumed: resumed, ID: id}
}

func (c *session) unsubscribe(name string, answer answer) {
	if err := proto.CheckPattern(name); err != nil {
		answer(complaint(proto.ErrorBadChannel, "", err))
		return
	}
	c.pay(nameCost + time.Duration(c.subscriptions())*followedCost)
	c.drop(name)
	c.sub.Unsubscribe([]string{name}, func() {
		answer(proto.Unsubscribed{Type: proto.FrameUnsubscribed, Channel: name})
	})
}

// reauthenticate replaces the principal by that of a fresh token of the same subject, and
// ends subscriptions that it does not cover. A token that is refused changes nothing.
func (c *session) reauthenticate(token string, answer answer) {
	c.pay(tokenCost)
	p, err := c.s.verifier.Verify(token)
	if err == nil && c.principal().Name != "" && p.Name != c.principal().Name {
		err = errors.New("it belongs to another subject; open another connection for that")
	}
	if err != nil {
		answer(complaint(proto.ErrorBadToken, "", err))
		return
	}
	c.adopt(p)
	c.watchExpiry()
	answer(proto.Authenticated{Type: proto.FrameAuthenticated, Subject: p.Name, Expires: proto.FormatTime(p.Expires)})
	names := c.names()
	c.pay(time.Duration(len(names)) * nameCost)
	c.dropForbidden(names)
}
