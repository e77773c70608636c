package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
)

// client is what the commands that talk to a deployment have in common.
type client struct {
	URL string // of the deployment
	CA  string // file of authorities (PEM); empty: the system's
	Key string // API key

	http *http.Client // made by web, once
}

const defaultURL = "http://localhost:5000"

// settings are those of a command that only reads what anybody may.
func (c *client) settings() []config.Setting {
	return []config.Setting{
		{Flag: "url", Env: "HERALD_URL", Help: "where Herald is, such as https://push.example.com", Into: &c.URL},
		{Flag: "ca", Env: "HERALD_CA",
			Help: "file of the authorities (PEM) that may sign Herald's certificate, in place of the system's",
			Into: &c.CA},
	}
}

// keySettings are those of a command that needs an API key.
func (c *client) keySettings() []config.Setting {
	return append(c.settings(), config.Setting{Env: "HERALD_API_KEY", Help: "the API key", Secret: true, Into: &c.Key})
}

// base parses the URL and reports a missing scheme in words.
func (c *client) base() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("url: %q is not a URL such as http://localhost:5000", c.URL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("url: want scheme, host, port and path alone, such as https://push.example.com/herald")
	}
	return u, nil
}

// tls is nil where the system's authorities are good enough.
func (c *client) tls() (*tls.Config, error) {
	if c.CA == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("ca: %s has no certificate (PEM)", c.CA)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// handshake opens a WebSocket. The dialer looks at ctx while it connects; here the end of ctx, as by Ctrl-C, also ends
// the wait for the answer.
func handshake(ctx context.Context, d *websocket.Dialer, address string, header http.Header) (*websocket.Conn,
	*http.Response, error) {
	one, stop := *d, func() bool { return true }
	one.NetDialContext = func(dial context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(dial, network, address)
		if err == nil {
			stop = context.AfterFunc(ctx, func() { _ = conn.Close() }) // closed twice at worst
		}
		return conn, err
	}
	ws, resp, err := one.DialContext(ctx, address, header)
	stop()
	return ws, resp, err
}

// web is an HTTP client that follows no redirect: one would carry the key to
// another host, or turn a POST into a GET.
func (c *client) web() (*http.Client, error) {
	if c.http != nil {
		return c.http, nil
	}
	secure, err := c.tls()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = secure
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c.http, nil
}

// do sends a request and turns every answer but 2xx into an error that a
// person can act on.
func (c *client) do(ctx context.Context, method, path string, query url.Values, contentType string,
	body []byte) (*http.Response, error) {
	return c.stream(ctx, method, path, query, contentType, bytes.NewReader(body))
}

// stream is do with a body that is read while the answer comes.
func (c *client) stream(ctx context.Context, method, path string, query url.Values, contentType string,
	body io.Reader) (*http.Response, error) {
	u, err := c.base()
	if err != nil {
		return nil, err
	}
	web, err := c.web()
	if err != nil {
		return nil, err
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
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
	resp, err := web.Do(req)
	if cause := interrupted(ctx); err != nil && cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, unreachable(u, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	return nil, refusal(u, resp)
}

// notHerald is an error that does not pass by itself: what answers there is no
// Herald, or is spoken to in the wrong way.
type notHerald struct{ reason string }

func (e notHerald) Error() string { return e.reason }

func notHeraldf(format string, args ...any) error { return notHerald{fmt.Sprintf(format, args...)} }

// unreachable says why u gave no HTTP answer, and what to do about it.
func unreachable(u *url.URL, err error) error {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var name *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &verification):
		return notHeraldf("%s shows a certificate that is not trusted: %v; name the file of its authority "+
			"with -ca, or the host for which it was made in -url", u.Host, verification.Err)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return notHeraldf("%s does not speak TLS: try -url http://%s", u.Host, u.Host)
	case errors.As(err, &name) && name.IsNotFound:
		return notHeraldf("there is no host %s; correct -url", u.Hostname())
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.Canceled):
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err // without the URL, which is named here
		}
		return fmt.Errorf("%s: %w; does Herald run there? herald doctor -url %s tells more", u.Host, err, origin(u))
	}
	return notHeraldf("what answers at %s is not Herald: %v", u.Host, err)
}

// refusal is the error of an HTTP answer that is none of success.
func refusal(u *url.URL, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %s: %w", u.Host, resp.Status, err)
	}
	var p proto.Problem
	if json.Unmarshal(b, &p) == nil && p.Type != "" {
		return &p
	}
	switch {
	case resp.StatusCode == http.StatusBadRequest && bytes.Contains(b, []byte("HTTP request to an HTTPS server")):
		return notHeraldf("%s speaks TLS: try -url https://%s", u.Host, u.Host)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return notHeraldf("%s sends on to %s: try that as -url", origin(u), quoted(resp.Header.Get("Location")))
	case passes(resp.StatusCode):
		return fmt.Errorf("%s says %s: it is probably a proxy whose Herald is away", u.Host, resp.Status)
	}
	return notHeraldf("%s says %s; is that Herald?", u.Host, resp.Status)
}

// passes reports whether an HTTP status is about a condition that may be over
// at the next attempt.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// origin is what stands in -url.
func origin(u *url.URL) string { return strings.Replace(u.Scheme, "ws", "http", 1) + "://" + u.Host }

// quoted makes text of a stranger harmless for a terminal.
func quoted(s string) string { return fmt.Sprintf("%q", s) }
