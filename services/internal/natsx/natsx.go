// Package natsx is how Herald talks to NATS: it dials, declares the stream,
// turns a message into a NATS message and back, and reads history by batched
// direct get.
package natsx

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// MinServer is the oldest nats-server that Herald runs on: per-message TTL
// came with it.
const MinServer = "2.11.0"

// Connect dials and checks the server's version. The connection reconnects
// for ever by itself, each 50 ms to 2 s, also when NATS refuses its password
// (nats.go would close it at the second refusal, and a password that is being
// changed would end every service). It keeps no buffer while it is away:
// a publish then fails at once, so that ingest can answer 503 instead of
// holding what may never be stored. Why it cannot come back is logged once
// for each time that it was lost. The caller drains or closes it.
func Connect(cfg Config, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	if cfg.URL == "" {
		cfg.URL = nats.DefaultURL
	}
	secure, err := cfg.security()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", Redact(cfg.URL), err)
	}
	var said atomic.Bool // that it cannot be reached, since it was lost
	unreachable := func(err error) {
		if err != nil && !said.Swap(true) {
			log.Warn("NATS cannot be reached; trying again until it can", "url", Redact(cfg.URL), "err", explain(err))
		}
	}
	var conn atomic.Pointer[nats.Conn] // nil until Connect has it
	opts := slices.Concat([]nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			// Why a handshake failed (TLS, a file, a password) nats.go reports to
			// nobody, it keeps it.
			if nc := conn.Load(); nc != nil {
				unreachable(nc.LastError())
			}
			return reconnectDelay(attempts)
		}),
		nats.ReconnectBufSize(-1),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DrainTimeout(5 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("NATS connection lost; reconnecting", "err", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { unreachable(err) }),
		nats.ConnectHandler(func(*nats.Conn) { said.Store(false) }), // after Attach
		nats.ReconnectHandler(func(nc *nats.Conn) {
			said.Store(false)
			log.Info("NATS connection is back", "server", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS reported an error", "subject", subject, "err", err)
		}),
	}, secure, more)
	nc, err := nats.Connect(cfg.URL, opts...)
	if malformed := (*url.Error)(nil); errors.As(err, &malformed) { // quotes the URL, password and all
		err = errors.New("the URL is malformed; special characters in a password are written as %40 for @")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", Redact(cfg.URL), explain(err))
	}
	conn.Store(nc)
	if err := CheckServer(nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// explain adds to the error of a handshake what it means that the other side is silent: a NATS server speaks first.
func explain(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "read" && op.Timeout() {
		return fmt.Errorf("%w: who listens there sends no greeting, as a NATS server does at once; is it an "+
			"HTTP server, or one that wants TLS first (tls://)?", err)
	}
	return err
}

// CheckServer says whether the server that nc is connected to is new enough.
// While it is connected to none there is nothing to say. Errors wrap
// ErrServerTooOld.
func CheckServer(nc *nats.Conn) error {
	if v := nc.ConnectedServerVersion(); olderThan(v, MinServer) {
		return fmt.Errorf("%w: NATS at %s is version %s; Herald needs %s or newer", ErrServerTooOld,
			Redact(nc.ConnectedUrl()), v, MinServer)
	}
	return nil
}

// Attach is Connect for a service that answers while NATS is away: if no
// server can be reached it says so, and the connection looks for one by
// itself until it is closed. Which one that will be is not known then, so
// whoever uses the connection calls CheckServer when there is one.
func Attach(cfg Config, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	return Connect(cfg, log, append([]nats.Option{nats.RetryOnFailedConnect(true)}, more...)...)
}

// ErrServerTooOld: the nats-server is older than MinServer.
var ErrServerTooOld = errors.New("nats-server is too old")

// reconnectDelay is how long to wait before the nth attempt in a row: 50 ms
// doubled up to 2 s, of which a random half is waited, so that the services do
// not all come back in one moment.
func reconnectDelay(attempts int) time.Duration {
	d := min(50*time.Millisecond<<min(max(attempts-1, 0), 6), 2*time.Second)
	return d/2 + rand.N(d/2)
}

// Redact hides passwords and tokens in a NATS URL list.
func Redact(urls string) string {
	items := strings.Split(urls, ",")
	for i, u := range items {
		if i+1 < len(items) && !strings.Contains(u, "@") && strings.Contains(items[i+1], "@") &&
			!strings.Contains(items[i+1], "://") {
			// Maybe a password with a comma, of which this is the first part.
			scheme, _, ok := strings.Cut(u, "://")
			if !ok {
				scheme = "nats"
			}
			items[i] = scheme + "://…"
			continue
		}
		scheme, rest, ok := strings.Cut(u, "://")
		if !ok {
			scheme, rest = "nats", u
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = "…@" + rest[at+1:]
		}
		items[i] = scheme + "://" + rest
	}
	return strings.Join(items, ",")
}

// olderThan compares "2.10.29" style versions; suffixes as in 2.12.0-RC.1 do
// not count. What cannot be read is not older: a fork knows best.
func olderThan(v, floor string) bool {
	a, b := numbers(v), numbers(floor)
	for i := range b {
		if i >= len(a) {
			return false
		}
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

func numbers(v string) []int {
	v, _, _ = strings.Cut(v, "-")
	var out []int
	for part := range strings.SplitSeq(v, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}

// ErrForeign: the NATS message is none of Herald's.
var ErrForeign = errors.New("not a Herald message")

// spliceable reports whether proto.AppendWithID can put the id in front of the
// first member: there must be one, or a lone comma would remain.
func spliceable(body []byte) bool {
	if n := len(body); n < 2 || body[0] != '{' || body[n-1] != '}' {
		return false
	}
	rest := bytes.TrimLeft(body[1:], " \t\r\n")
	return rest[0] == '"'
}

// first reads a header by its exact name; nats.Header.Get is exact too, but
// does not say so by its name.
func first(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// last reads a header that the server sets: it appends its own to those of
// the publisher, so what somebody forged under that name stands before it.
func last(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
