package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

// client is what the commands that speak HTTP have in common.
type client struct {
	URL string // of the deployment
	Key string // API key
}

func (c *client) settings() []config.Setting {
	return []config.Setting{
		{Flag: "url", Env: "HERALD_URL", Help: "where Herald is", Into: &c.URL},
		{Env: "HERALD_API_KEY", Help: "the API key", Secret: true, Into: &c.Key},
	}
}

// base parses the URL and reports a missing scheme in words.
func (c *client) base() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("url: %q is not a URL such as http://localhost:5000", c.URL)
	}
	return u, nil
}

const defaultURL = "http://localhost:5000"

// do sends a request and turns every answer but 2xx into an error that a
// person can act on.
func (c *client) do(ctx context.Context, method, path string, query url.Values, contentType string, body []byte) (*http.Response, error) {
	u, err := c.base()
	if err != nil {
		return nil, err
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.Key == "" {
		return nil, errors.New("no API key: set HERALD_API_KEY, or HERALD_API_KEY_FILE to a file that has it")
	}
	req.Header.Set("X-API-KEY", c.Key)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w; does Herald run there? herald doctor tells more", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	var p proto.Problem
	if json.Unmarshal(b, &p) != nil || p.Type == "" {
		return nil, fmt.Errorf("%s says %s; is that Herald?", u.Host, resp.Status)
	}
	return nil, &p
}

// send publishes the arguments as one message, or each line of standard input.
func send(ctx context.Context, args []string, env config.Env, std streams) error {
	c := client{URL: defaultURL}
	channel, event, asJSON, ephemeral := proto.Broadcast, "", false, false
	words, err := config.Parse("herald send", args, env, nil, std.out, append(c.settings(),
		config.Setting{Flag: "channel", Help: "where the message goes", Into: &channel},
		config.Setting{Flag: "event", Help: "the message's short name", Into: &event},
		config.Setting{Flag: "json", Help: "the message is JSON, not text", Into: &asJSON},
		config.Setting{Flag: "ephemeral", Help: "only for who is connected now: not stored", Into: &ephemeral},
	))
	if err != nil {
		return err
	}
	if err := proto.CheckChannel(channel); err != nil {
		return err
	}
	one := func(data []byte) error {
		contentType := "text/plain; charset=utf-8"
		if asJSON {
			contentType = "application/json"
		}
		query := url.Values{}
		if event != "" {
			query.Set("event", event)
		}
		if ephemeral {
			query.Set("ephemeral", "true")
		}
		sending, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		resp, err := c.do(sending, http.MethodPost, "/v1/channels/"+url.PathEscape(channel), query, contentType, data)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // only read from
		_, err = io.Copy(std.out, resp.Body)
		return err
	}
	if len(words) > 0 {
		return one([]byte(strings.Join(words, " ")))
	}
	return eachLine(std.in, one)
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
