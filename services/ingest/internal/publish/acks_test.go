package publish

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestReadAck(t *testing.T) {
	for _, c := range []struct {
		name, data string
		header     nats.Header
		want       outcome
		code       jetstream.ErrorCode // of an *APIError
	}{
		{"stored", `{"stream":"HERALD","seq":1024}`, nil, outcome{seq: 1024}, 0},
		{"a duplicate", `{"stream":"HERALD","seq":1024,"duplicate": true}`, nil, outcome{seq: 1024, duplicate: true},
			0},
		{"otherwise spaced", `{ "stream": "HERALD", "seq": 7, "duplicate":true }`, nil,
			outcome{seq: 7, duplicate: true}, 0},
		{"of a domain", `{"stream":"HERALD","domain":"hub","seq":7}`, nil, outcome{seq: 7}, 0},
		{"more members", `{"stream":"HERALD","seq":7,"val":"1"}`, nil, outcome{seq: 7}, 0},
		{"the largest sequence", `{"stream":"HERALD","seq":18446744073709551615}`, nil, outcome{seq: 1<<64 - 1}, 0},
		{"refused", `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},` +
			`"stream":"HERALD","seq":0}`, nil, outcome{}, codeTooLarge},
		{"no stream", "", nats.Header{"Status": {"503"}}, outcome{err: jetstream.ErrNoStreamResponse}, 0},
		{"nothing", "", nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"no JSON", "+OK", nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"cut off", `{"stream":"HERALD","seq":`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"no sequence", `{"stream":"HERALD","seq":}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"a negative sequence", `{"stream":"HERALD","seq":-1}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"a sequence too large", `{"stream":"HERALD","seq":18446744073709551616}`, nil,
			outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"of no stream", `{"seq":7}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := readAck(&nats.Msg{Data: []byte(c.data), Header: c.header})
			if c.code != 0 {
				var api *jetstream.APIError
				if !errors.As(got.err, &api) || api.ErrorCode != c.code {
					t.Errorf("got %+v, want error %d", got, c.code)
				}
				return
			}
			if got.seq != c.want.seq || got.duplicate != c.want.duplicate || !errors.Is(got.err, c.want.err) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
