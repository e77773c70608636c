package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// link is the connection of herald top. A Herald that starts anew has its NATS at another address and with another
// password, so the link looks where it is whenever there is no connection. The zero value has none. reach is called
// by one goroutine at a time; close also while it runs.
type link struct {
	mu     sync.Mutex
	nc     *nats.Conn  // guarded by mu; nil: none yet
	asks   *ask.Client // guarded by mu; over nc
	url    string      // guarded by mu; of nc
	closed bool        // guarded by mu
}

// errLinkClosed is for a look that begins when top has ended.
var errLinkClosed = errors.New("herald top ends")

// reach returns what asks the services. The error is a sentence that says why nobody can be asked now.
func (l *link) reach(ctx context.Context, cfg Config) (*ask.Client, error) {
	l.mu.Lock()
	nc, asks, url := l.nc, l.asks, l.url
	l.mu.Unlock()
	if nc != nil && nc.IsConnected() {
		return asks, nil
	}
	where, err := findNATS(cfg)
	if err != nil {
		return nil, err
	}
	away := fmt.Errorf("NATS is not connected: %s does not answer", natsx.Redact(where.URL))
	if cfg.NATS.URL == "" {
		away = fmt.Errorf("%w: the Herald of %s does not answer; start it", errNotRunning, cfg.Data)
	}
	if nc != nil && where.URL == url { // it reconnects by itself
		return nil, away
	}
	made, err := dialNATS(ctx, where)
	switch {
	case err != nil && cfg.NATS.URL == "":
		return nil, away
	case err != nil:
		return nil, err
	}
	if asks, err = ask.NewClient(made); err != nil {
		made.Close()
		return nil, err
	}
	l.drop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		asks.Close()
		made.Close()
		return nil, errLinkClosed
	}
	l.nc, l.asks, l.url = made, asks, where.URL
	return asks, nil
}

// close ends the link for good.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.drop()
}

// drop closes what there is.
func (l *link) drop() {
	l.mu.Lock()
	nc, asks := l.nc, l.asks
	l.nc, l.asks = nil, nil
	l.mu.Unlock()
	if nc != nil {
		asks.Close()
		nc.Close()
	}
}
