package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
)

var listenCommand = command{
	name: "listen", args: "[CHANNEL…]", does: "print messages as they arrive, one JSON line each; resumes by itself",
	about: `
Prints the messages of the channels and patterns as JSON lines on standard output, and what else happens on
standard error. Without a channel it listens to broadcast. When the connection ends it comes back and resumes.`,
	examples: []string{
		"herald listen broadcast 'public.>'",
		"herald listen -since all | jq .data",
		"HERALD_TOKEN_FILE=token.txt herald listen 'user.4711.>' -url https://push.example.com",
	},
	start: func(c *call) task {
		l := &listener{client: client{URL: defaultURL}, std: c.std}
		return task{
			settings: append(l.settings(),
				config.Setting{Env: "HERALD_TOKEN", Help: "JWT for channels that anonymous clients may not follow",
					Secret: true, Into: &l.token},
				config.Setting{Flag: "since",
					Help: "begin after this id; all: everything kept; last: the newest of each channel",
					Into: &l.since},
			),
			run: l.run,
		}
	},
}

// listener prints messages, and comes back by itself when the connection
// ends: the whole of PROTOCOL.md's "Resume" in a page of Go.
type listener struct {
	client
	channels []string
	token    string
	since    string // the newest id
	std      streams

	dialer   websocket.Dialer
	url      *url.URL // of /ws
	failures int      // in a row
	welcomed bool     // ever: it is Herald, so whatever goes wrong may pass
}

// run prints what arrives until ctx ends.
func (l *listener) run(ctx context.Context, words []string) error {
	if l.channels = words; len(l.channels) == 0 {
		l.channels = []string{proto.Broadcast}
	}
	if slices.Contains(l.channels, "") { // an unset variable of a script; /ws understands it as no channel at all
		return errors.New("a channel's name is empty; name one, or none for " + proto.Broadcast)
	}
	base, err := l.base()
	if err != nil {
		return err
	}
	l.url = base.JoinPath("/ws")
	l.url.Scheme = strings.Replace(l.url.Scheme, "http", "ws", 1)
	l.dialer = websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 30 * time.Second}
	if l.dialer.TLSClientConfig, err = l.tls(); err != nil {
		return err
	}
	for {
		err := l.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if final := l.final(err); final != nil {
			return final
		}
		wait := l.backoff()
		fmt.Fprintf(l.std.err, "herald: %v; connecting again in %s\n", err, wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// final is the error to end with if err does not pass by itself, else nil.
func (l *listener) final(err error) error {
	var closed *websocket.CloseError
	var other notHerald
	var problem *proto.Problem
	switch {
	case errors.As(err, &closed) && proto.CloseCode(closed.Code) == proto.CloseTokenExpired:
		return errors.New("the token has expired: set HERALD_TOKEN to a new one")
	case errors.As(err, &closed) && !comeBack(closed.Code):
		return fmt.Errorf("disconnected: %s (%d)", onOneLine(closed.Text), closed.Code)
	case errors.As(err, &other) && !l.welcomed:
		return err
	case errors.As(err, &problem) && !passes(problem.Status):
		return err
	}
	return nil
}

// comeBack applies the ranges of PROTOCOL.md to codes of the network too.
func comeBack(code int) bool {
	return code == websocket.CloseAbnormalClosure || code == websocket.CloseNoStatusReceived ||
		proto.CloseCode(code).ComeBack()
}

// backoff is full jitter: a random time up to a bound that doubles from half
// a second to 30.
func (l *listener) backoff() time.Duration {
	bound := min(30*time.Second, 500*time.Millisecond<<min(l.failures, 8))
	l.failures++
	return rand.N(bound)
}

// connect makes one connection and prints what comes until it ends.
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
	ws, resp, err := handshake(ctx, &l.dialer, u.String(), header)
	if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
		return refusal(l.url, resp)
	}
	if err != nil {
		return unreachable(l.url, err)
	}
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })() // ends the read below
	defer func() { _ = ws.Close() }()                         // closed twice at worst
	for greeted := false; ; {
		if !greeted { // Herald speaks first, at once
			_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
		}
		_, b, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		if !greeted {
			greeted = true
			_ = ws.SetReadDeadline(time.Time{})
		}
		if err := l.frame(b); err != nil {
			return err
		}
	}
}

// frame prints a message, and tells of control frames on standard error.
func (l *listener) frame(b []byte) error {
	var f struct {
		Type    string `json:"type"`
		ID      string `json:"id"`
		Channel string `json:"channel"`
		Detail  string `json:"detail"`
		Reason  string `json:"reason"`
		Since   string `json:"since"`
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Type == "" && f.Channel == "" {
		return notHeraldf("what answers at %s speaks WebSocket, and is not Herald: it sent %.100q", l.url.Host, b)
	}
	switch f.Type {
	case "":
		l.failures = 0
		if f.ID != "" {
			l.since = f.ID
		}
		_, err := fmt.Fprintf(l.std.out, "%s\n", escapedJSON(b))
		return err
	case proto.FrameWelcome:
		l.failures, l.welcomed = 0, true
		if l.since == "" || l.since == "last" { // else what comes from now on could be missed by the next connection
			l.since = f.ID
		}
		fmt.Fprintf(l.std.err, "herald: listening to %s\n", onOneLine(strings.Join(l.channels, ", ")))
	case proto.FramePosition:
		l.since = f.ID
	case proto.FrameGap:
		l.since = f.ID
		fmt.Fprintf(l.std.err, "herald: messages after %s up to %s are missing: %s\n", onOneLine(f.Since),
			onOneLine(f.ID), onOneLine(f.Reason))
	case proto.FrameError:
		fmt.Fprintf(l.std.err, "herald: %s\n", onOneLine(f.Detail))
	}
	return nil
}
