package main

import (
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
	name: "send", args: "[MESSAGE…]", does: "publish the words as one text message, or each line of a file",
	about: `
Publishes the words as one text message, or, without words, each line of a file or of standard input as a message
of its own. The API key is taken from HERALD_API_KEY. Each answer says under which id the message was stored. A line
that is refused stops none of the others; the exit code then is 1. On a terminal a bar shows how far it is.`,
	examples: []string{
		"herald send Hello, browser",
		`herald send -channel public.orders -json '{"n": 17}'`,
		"herald send -channel public.import -json -file messages.ndjson",
		"tail -f app.log | herald send -channel public.log -url https://push.example.com",
	},
	start: func(c *call) task {
		s := &sender{client: client{URL: defaultURL}, channel: proto.Broadcast, std: c.std}
		return task{
			settings: append(s.keySettings(),
				config.Setting{Flag: "channel", Help: "where the message goes", Into: &s.channel},
				config.Setting{Flag: "event", Help: "the message's short name", Into: &s.event},
				config.Setting{Flag: "file", Help: "publish the lines of this file; -: of standard input",
					Into: &s.file},
				config.Setting{Flag: "json", Help: "the message is JSON, not text", Into: &s.json},
				config.Setting{Flag: "ephemeral", Help: "only for who is connected now: not stored",
					Into: &s.ephemeral},
			),
			run: s.run,
		}
	},
}

// sender publishes messages with the same settings.
type sender struct {
	client
	channel, event, file string
	json, ephemeral      bool
	std                  streams
}

func (s *sender) run(ctx context.Context, words []string) error {
	if err := proto.CheckChannel(s.channel); err != nil {
		return err
	}
	if len(words) > 0 && s.file != "" {
		return errors.New("give the message as arguments or as lines of a file, not both")
	}
	if len(words) > 0 {
		return s.send(ctx, []byte(strings.Join(words, " ")))
	}
	return s.lines(ctx)
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
	if cause := interrupted(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w; the message may have been sent or not", cause)
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	_, err = io.Copy(s.std.out, resp.Body)
	return err
}
