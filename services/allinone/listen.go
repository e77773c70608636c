package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
)

// listener prints messages, and comes back by itself when the connection
// ends: the whole of PROTOCOL.md's "Resume" in a page of Go.
type listener struct {
	url      *url.URL
	channels []string
	token    string
	since    string // the newest id
	std      streams
	failures int // in a row
}

// listen prints what arrives until ctx ends.
func listen(ctx context.Context, args []string, env config.Env, std streams) error {
	c := client{URL: defaultURL}
	l := &listener{std: std}
	var err error
	l.channels, err = config.Parse("herald listen", args, env, nil, std.out, []config.Setting{
		c.settings()[0],
		{Env: "HERALD_TOKEN", Help: "JWT for channels that anonymous clients may not follow", Secret: true, Into: &l.token},
		{Flag: "since", Help: "begin after this id; all: everything kept; last: the newest of each channel", Into: &l.since},
	})
	if err != nil {
		return err
	}
	if len(l.channels) == 0 {
		l.channels = []string{proto.Broadcast}
	}
	if l.url, err = c.base(); err != nil {
		return err
	}
	l.url = l.url.JoinPath("/ws")
	l.url.Scheme = strings.Replace(l.url.Scheme, "http", "ws", 1)
	for {
		err := l.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var closed *websocket.CloseError
		if errors.As(err, &closed) && !comeBack(closed.Code) {
			return fmt.Errorf("disconnected: %s (%d)", closed.Text, closed.Code)
		}
		if closed != nil && proto.CloseCode(closed.Code) == proto.CloseTokenExpired {
			return errors.New("the token has expired: set HERALD_TOKEN to a new one")
		}
		wait := l.backoff()
		fmt.Fprintf(std.err, "herald: %v; connecting again in %s\n", err, wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// comeBack applies the ranges of PROTOCOL.md to codes of the network too.
func comeBack(code int) bool {
	return code == websocket.CloseAbnormalClosure || code == websocket.CloseNoStatusReceived || proto.CloseCode(code).ComeBack()
}

// backoff is full jitter: a random time up to a bound that doubles from half
// a second to 30.
func (l *listener) backoff() time.Duration {
	bound := min(30*time.Second, 500*time.Millisecond<<min(l.failures, 8))
	l.failures++
	return rand.N(bound)
}

func (l *listener) connect(ctx context.Context) error {
	query := url.Values{"channel": l.channels}
	if l.since != "" {
		query.Set("since", l.since)
	}
	u := *l.url
	u.RawQuery = query.Encode()
	header := http.Header{}
	if l.token != "" {
		header.Set("Authorization", "Bearer "+l.token)
	}
	ws, resp, err := websocket.DefaultDialer.DialContext(ctx, u.String(), header)
	if err != nil {
		if resp != nil {
			return fmt.Errorf("connect to %s: %s", l.url, resp.Status)
		}
		return fmt.Errorf("connect to %s: %w", l.url, err)
	}
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })() // ends the read below
	defer func() { _ = ws.Close() }()                         // closed twice at worst
	for {
		_, b, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		l.failures = 0
		if err := l.frame(b); err != nil {
			return err
		}
	}
}

// frame prints a message, and tells of control frames on standard error.
func (l *listener) frame(b []byte) error {
	var f struct {
		Type   string `json:"type"`
		ID     string `json:"id"`
		Detail string `json:"detail"`
		Reason string `json:"reason"`
		Since  string `json:"since"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("a frame is not JSON: %w", err)
	}
	switch f.Type {
	case "":
		if f.ID != "" {
			l.since = f.ID
		}
		_, err := fmt.Fprintf(l.std.out, "%s\n", b)
		return err
	case proto.FrameWelcome:
		if l.since == "" {
			l.since = f.ID
		}
		fmt.Fprintf(l.std.err, "herald: listening to %s\n", strings.Join(l.channels, ", "))
	case proto.FrameGap:
		l.since = f.ID
		fmt.Fprintf(l.std.err, "herald: messages after %s up to %s are missing: %s\n", f.Since, f.ID, f.Reason)
	case proto.FrameError:
		fmt.Fprintf(l.std.err, "herald: %s\n", f.Detail)
	}
	return nil
}
