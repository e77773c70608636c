package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
)

var sendCommand = command{
	name: "send", args: "[MESSAGE…]", does: "publish the words as one text message, or each line of standard input",
	about: "Publishes the words as one text message, or, without words, each line of standard input as a message of its own.\n" +
		"The API key is taken from HERALD_API_KEY. Each answer says under which id the message was stored.",
	examples: []string{
		"herald send Hello, browser",
		`herald send -channel public.orders -json '{"n": 17}'`,
		"tail -f app.log | herald send -channel public.log -url https://push.example.com",
	},
	start: func(c *call) task {
		s := &sender{client: client{URL: defaultURL}, channel: proto.Broadcast, std: c.std}
		return task{
			settings: append(s.keySettings(),
				config.Setting{Flag: "channel", Help: "where the message goes", Into: &s.channel},
				config.Setting{Flag: "event", Help: "the message's short name", Into: &s.event},
				config.Setting{Flag: "json", Help: "the message is JSON, not text", Into: &s.json},
				config.Setting{Flag: "ephemeral", Help: "only for who is connected now: not stored", Into: &s.ephemeral},
			),
			run: s.run,
		}
	},
}

// sender publishes messages with the same settings.
type sender struct {
	client
	channel, event  string
	json, ephemeral bool
	std             streams
}

func (s *sender) run(ctx context.Context, words []string) error {
	if err := proto.CheckChannel(s.channel); err != nil {
		return err
	}
	one := func(data []byte) error { return s.send(ctx, data) }
	if len(words) > 0 {
		return one([]byte(strings.Join(words, " ")))
	}
	return eachLine(s.std.in, one)
}

// send publishes one message and prints the answer.
func (s *sender) send(ctx context.Context, data []byte) error {
	contentType := "text/plain; charset=utf-8"
	if s.json {
		contentType = "application/json"
	}
	query := url.Values{}
	if s.event != "" {
		query.Set("event", s.event)
	}
	if s.ephemeral {
		query.Set("ephemeral", "true")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := s.do(ctx, http.MethodPost, "/v1/channels/"+url.PathEscape(s.channel), query, contentType, data)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	_, err = io.Copy(s.std.out, resp.Body)
	return err
}

// eachLine calls f for every line that is not empty, as the lines come.
func eachLine(r io.Reader, f func([]byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, proto.MaxRequestBytes)
	sent := 0
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := f(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		sent++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	if sent == 0 {
		return errors.New("nothing to send: give the message as arguments, or lines on standard input")
	}
	return nil
}
