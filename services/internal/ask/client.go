package ask

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const (
	// answerWait is how long the instances of a service are waited for.
	answerWait = time.Second
	// quiet is how long after an answer others are waited for, as long as nobody knows how many there are.
	quiet = 250 * time.Millisecond
	// pingEvery is how often a Client that is in use looks for instances that it does not know.
	pingEvery = 5 * time.Second
	// forgetAfter is after how long without a sign of life an instance is no longer missed.
	forgetAfter = 30 * time.Second
	// maxWaiting bounds the answers that wait to be read.
	maxWaiting = 1024
)

// Client asks. It learns which instances there are by the ping of NATS micro services, so that it can name who did not
// answer, and waits no longer than for those. It asks for pings only while it is used. Safe for concurrent use.
type Client struct {
	nc   *nats.Conn
	wait time.Duration // the constant, unless Patient has changed it
	subs []*nats.Subscription

	mu     sync.Mutex
	known  map[string]map[string]*instance // guarded by mu; by service and instance
	pinged time.Time                       // guarded by mu; zero: never
	pings  string                          // fixed; where the answers to pings come
}

// instance is a process that has answered a ping or a question.
type instance struct {
	lastSign time.Time
	// missed says that it did not answer the last question. Nobody waits for it until its next sign of life.
	missed bool
}

// NewClient makes a client over a connection, which the caller owns. Close ends it.
func NewClient(nc *nats.Conn) (*Client, error) {
	c := &Client{nc: nc, wait: answerWait, known: map[string]map[string]*instance{}, pings: nc.NewInbox()}
	for subject, f := range map[string]nats.MsgHandler{c.pings: c.pong, subjectBye: c.stopped} {
		sub, err := nc.Subscribe(subject, f)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("ask: subscribe to %s: %w", subject, err)
		}
		c.subs = append(c.subs, sub)
	}
	return c, nil
}

// Patient has the client wait for answers as long as a test does, on a machine that does much else. It comes before
// the first question.
func (c *Client) Patient(wait time.Duration) { c.wait = wait }

// Close ends the subscriptions of the client. The connection stays open.
func (c *Client) Close() {
	for _, sub := range c.subs {
		_ = sub.Unsubscribe() // fails only when the connection is closed
	}
}

// pong notes an instance that answers a ping.
func (c *Client) pong(msg *nats.Msg) {
	var p micro.Ping
	if json.Unmarshal(msg.Data, &p) != nil {
		return
	}
	if service, ok := strings.CutPrefix(p.Name, "herald-"); ok && p.Metadata["instance"] != "" {
		c.alive(service, p.Metadata["instance"])
	}
}

// stopped forgets an instance that announces its end.
func (c *Client) stopped(msg *nats.Msg) {
	var b bye
	if json.Unmarshal(msg.Data, &b) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known[b.Service], b.Instance)
}

// alive notes a sign of life of an instance.
func (c *Client) alive(service, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[service] == nil {
		c.known[service] = map[string]*instance{}
	}
	c.known[service][name] = &instance{lastSign: time.Now()}
}

// expected are the instances of a service that are known, and those of them that are waited for. sure is false until
// somebody had the time to answer a ping.
func (c *Client) expected(service string) (known, awaited map[string]bool, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	sure = !c.pinged.IsZero() && now.Sub(c.pinged) >= quiet
	if c.pinged.IsZero() || now.Sub(c.pinged) > pingEvery {
		sure = sure && now.Sub(c.pinged) < forgetAfter // else nobody was asked for so long that much may have changed
		c.pinged = now
		_ = c.nc.PublishRequest("$SRV.PING", c.pings, nil) // fails where the question fails, too
	}
	known, awaited = map[string]bool{}, map[string]bool{}
	for name, i := range c.known[service] {
		if now.Sub(i.lastSign) > forgetAfter {
			delete(c.known[service], name)
			continue
		}
		known[name] = true
		if !i.missed {
			awaited[name] = true
		}
	}
	return known, awaited, sure
}

// From is the answer of one instance.
type From[A any] struct {
	Instance string
	Answer   A
}

// All asks every instance of a service, and waits for a second at most. The answers are in the order of the instances'
// names; silent has a sentence for each that did not answer, or could not. A question that is refused is an *Error.
func All[A any](ctx context.Context, c *Client, service, what string, question any) (answers []From[A], silent []string,
	err error) {
	b, err := json.Marshal(question)
	if err != nil {
		return nil, nil, fmt.Errorf("ask: %w", err)
	}
	known, awaited, sure := c.expected(service)
	inbox := c.nc.NewInbox()
	replies := make(chan *nats.Msg, maxWaiting) // NATS writes; never closed
	sub, err := c.nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return nil, nil, fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := c.nc.PublishRequest(Subject(service, what), inbox, b); err != nil {
		return nil, nil, fmt.Errorf("ask: %w", err)
	}
	end := time.NewTimer(c.wait)
	defer end.Stop()
	still := time.NewTimer(c.wait) // until somebody has answered
	defer still.Stop()
	if sure && len(awaited) == 0 { // who is known did not answer last time
		still.Reset(quiet)
	}
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-end.C:
			waiting = false
		case <-still.C:
			waiting = false
		case msg := <-replies:
			if noResponders(msg) {
				waiting = false
				break
			}
			name := msg.Header.Get(headerInstance)
			known[name] = false // it need not be told
			delete(awaited, name)
			c.alive(service, name)
			a, err := decode[A](msg)
			switch e := (*Error)(nil); {
			case err == nil:
				answers = append(answers, From[A]{name, a})
			case errors.As(err, &e):
				return nil, nil, err
			default:
				silent = append(silent, fmt.Sprintf("%s %s (%v)", service, name, err))
			}
			if !sure {
				still.Reset(quiet)
			}
		}
		if sure && len(awaited) == 0 {
			waiting = false
		}
	}
	for name, missing := range known {
		if missing {
			silent = append(silent, fmt.Sprintf("%s %s (did not answer within %v)", service, name, c.wait))
			c.missed(service, name)
		}
	}
	slices.SortFunc(answers, func(a, b From[A]) int { return cmp.Compare(a.Instance, b.Instance) })
	slices.Sort(silent)
	return answers, silent, nil
}

func (c *Client) missed(service, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.known[service][name]; i != nil {
		i.missed = true
	}
}

// One asks one instance. An *Error is a refusal; 404: there is no such instance.
func One[A any](ctx context.Context, c *Client, service, instance, what string, question any) (a A, err error) {
	b, err := json.Marshal(question)
	if err != nil {
		return a, fmt.Errorf("ask: %w", err)
	}
	if instance == "" || strings.ContainsAny(instance, ".*> \t\r\n") {
		return a, Refuse(404, "there is no %s %q", service, instance)
	}
	limited, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	msg, err := c.nc.RequestWithContext(limited, InstanceSubject(service, instance, what), b)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return a, Refuse(404, "there is no %s %s; it may have stopped", service, instance)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return a, fmt.Errorf("%s %s did not answer within %v", service, instance, c.wait)
	case err != nil:
		return a, fmt.Errorf("ask %s %s: %w", service, instance, err)
	}
	return decode[A](msg)
}

// Any asks whichever instance NATS chooses, for what is among Spec.Once, and waits for so long. An *Error is a refusal;
// 503: there is no such service now.
func Any[A any](ctx context.Context, c *Client, service, what string, question any, wait time.Duration) (a A,
	err error) {
	b, err := json.Marshal(question)
	if err != nil {
		return a, fmt.Errorf("ask: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	msg, err := c.nc.RequestWithContext(limited, Subject(service, what), b)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return a, Refuse(503, "no %s is there", service)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return a, fmt.Errorf("no %s answered within %v", service, wait)
	case err != nil:
		return a, fmt.Errorf("ask a %s: %w", service, err)
	}
	return decode[A](msg)
}

func noResponders(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && msg.Header.Get("Status") == "503"
}

func decode[A any](msg *nats.Msg) (a A, err error) {
	if text := msg.Header.Get(micro.ErrorHeader); text != "" {
		if status, err := strconv.Atoi(msg.Header.Get(micro.ErrorCodeHeader)); err == nil && status < 500 {
			return a, &Error{Status: status, Text: text}
		}
		return a, errors.New(text)
	}
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return a, fmt.Errorf("the answer is not understood: %w", err)
	}
	return a, nil
}
