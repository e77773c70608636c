package faults

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
)

// errUnsupported: nothing can be sent over Server-Sent Events.
var errUnsupported = errors.New("the protocol has no client frames")

// events is a stream of Server-Sent Events, read as a browser's EventSource
// does (WHATWG HTML, section 9.2).
type events struct {
	body    io.ReadCloser
	read    *bufio.Reader
	cut     context.CancelFunc // ends the request
	watch   *time.Timer        // cuts it when it is silent for too long
	patient time.Duration
}

func dialEvents(ctx context.Context, gateway string, query url.Values) (stream, error) {
	since := query.Get("since")
	query.Del("since")
	// ctx is for dialling; the request lives as long as the stream.
	life, cut := context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, cut)()
	req, err := http.NewRequestWithContext(life, http.MethodGet, "http://"+gateway+"/sse?"+query.Encode(), nil)
	if err != nil {
		cut()
		return nil, err
	}
	if since != "" {
		req.Header.Set("Last-Event-ID", since)
	}
	// A connection of its own, as each stream of a browser has.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		cut()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK { // an EventSource gives up for good on anything else
		cut()
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: status %s", closeError(proto.CloseBadRequest), resp.Status)
	}
	return &events{body: resp.Body, read: bufio.NewReaderSize(resp.Body, 1<<10), cut: cut,
		watch: time.AfterFunc(dialTimeout, cut), patient: dialTimeout}, nil
}

func (e *events) heartbeat(seconds int) {
	e.patient = 2*time.Duration(seconds)*time.Second + time.Second
}

// next reads one event with data and returns that. The goodbye is an error.
func (e *events) next() ([]byte, error) {
	var data []byte
	var kind string
	for {
		line, err := e.read.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		e.watch.Reset(e.patient)
		line = bytes.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case len(line) > 0 && name == "data":
			data = append(append(data, value...), '\n')
		case len(line) > 0 && name == "event":
			kind = value
		case len(line) == 0 && len(data) > 0:
			data = bytes.TrimSuffix(data, []byte("\n"))
			if kind == "close" {
				return nil, goodbye(data)
			}
			return data, nil
		}
	}
}

func goodbye(data []byte) error {
	var f struct{ Code proto.CloseCode }
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("goodbye %s: %w", data, err)
	}
	return closeError(f.Code)
}

func (e *events) send(any) error { return errUnsupported }

func (e *events) close() {
	e.watch.Stop()
	e.cut()
	_ = e.body.Close() // as the network would
}
