//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// broker is nats-server and ingest, which declares the stream, as processes, and
// a publisher in this one. All candidates receive their messages from here.
type broker struct {
	url    string // of NATS
	varz   string // URL of NATS's state
	pprof  string // URL of NATS's profiler
	ingest string // base URL
	apiKey string

	nats, front *process
	nc          *nats.Conn
	js          jetstream.JetStream
	epoch       string
	refused     atomic.Int64 // publishes that were not acknowledged
}

// startBroker returns when messages can be stored.
func (b *bench) startBroker(ctx context.Context) error {
	a, err := freeAddresses(4)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	k := &broker{url: "nats://" + a[0], varz: "http://" + a[1] + "/varz", pprof: "http://" + a[2], ingest: "http://" + a[3],
		apiKey: rand.Text()}
	b.broker = k
	config := filepath.Join(b.dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\nhttp: %q\nprof_port: %s\njetstream { store_dir: %q }\n",
		a[0], a[1], a[2][len("127.0.0.1:"):], b.dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	k.nats = command("nats-server", nil, b.binary["nats-server"], "-c", config)
	if err := b.start(k.nats); err != nil {
		return err
	}
	if err := k.nats.await(ctx, func() bool {
		k.nc, err = nats.Connect(k.url)
		return err == nil
	}); err != nil {
		return err
	}
	k.front = command("ingest", []string{"HERALD_API_KEY=" + k.apiKey}, b.binary["ingest"],
		"-listen", a[3], "-nats", k.url, "-log-level", "warn")
	if err := b.start(k.front); err != nil {
		return err
	}
	if err := k.front.awaitReady(ctx, k.ingest); err != nil {
		return err
	}
	refused := func(jetstream.JetStream, *nats.Msg, error) { k.refused.Add(1) }
	k.js, err = jetstream.New(k.nc, jetstream.WithPublishAsyncErrHandler(refused))
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	s, err := k.js.Stream(ctx, proto.Stream)
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	k.epoch = proto.EpochOf(s.CachedInfo().Created)
	return nil
}

// awaitReady waits until a service with this base URL is ready.
func (p *process) awaitReady(ctx context.Context, url string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return p.await(ctx, func() bool {
		resp, err := client.Get(url + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// load is what to publish: so many messages, so many a second, in bursts.
type load struct {
	messages  int
	perSecond float64
	burst     int
	channel   func(i int) string // of the i-th message
}

// to is a load of messages to one channel, as fast as messages are ever offered.
func to(channel string, messages int) load {
	return load{messages: messages, perSecond: mostPerSecond, burst: messages, channel: func(int) string { return channel }}
}

// pace calls send with the channel and the body of each message when it is due.
func (l load) pace(ctx context.Context, send func(channel string, body []byte) error) error {
	begin := time.Now()
	for i := range l.messages {
		if i%l.burst == 0 {
			due := begin.Add(time.Duration(float64(i) / l.perSecond * float64(time.Second)))
			if err := pause(ctx, time.Until(due)); err != nil {
				return err
			}
		}
		channel := l.channel(i)
		if err := send(channel, body(channel, i)); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

// publish stores the load in the stream, at its pace as far as the machine
// keeps up, and returns when all of it is acknowledged.
func (k *broker) publish(ctx context.Context, l load) error {
	before := k.refused.Load()
	if err := l.pace(ctx, func(channel string, body []byte) error {
		_, err := k.js.PublishAsync(proto.StoredSubject(channel), body, jetstream.WithStallWait(10*time.Second))
		return err
	}); err != nil {
		return err
	}
	select {
	case <-k.js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		return fmt.Errorf("publish: no acknowledgement for 30 s")
	}
	if n := k.refused.Load() - before; n > 0 {
		return fmt.Errorf("publish: %d of %d messages were not acknowledged", n, l.messages)
	}
	return nil
}

// pass sends the load through NATS without storing it, to subjects that begin so.
func (k *broker) pass(ctx context.Context, l load, subjects string) error {
	if err := l.pace(ctx, func(channel string, body []byte) error { return k.nc.Publish(subjects+channel, body) }); err != nil {
		return err
	}
	if err := k.nc.FlushTimeout(30 * time.Second); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// newest is the id of the newest message stored.
func (k *broker) newest(ctx context.Context) (string, error) {
	s, err := k.js.Stream(ctx, proto.Stream)
	if err != nil {
		return "", fmt.Errorf("newest message: %w", err)
	}
	return proto.Cursor{Epoch: k.epoch, Seq: proto.EndOf(s.CachedInfo().State.LastSeq)}.String(), nil
}

// dataBytes is the size of the data of each message.
const dataBytes = 128

// data is one message's: JSON with the time, in nanoseconds since 1970, filled up to dataBytes.
func data(i int) []byte {
	b := fmt.Appendf(make([]byte, 0, dataBytes), `{"ts":%d,"n":%d,"d":"`, time.Now().UnixNano(), i)
	for n := byte(0); len(b) < dataBytes-2; n++ {
		b = append(b, 'a'+n%26)
	}
	return append(b, `"}`...)
}

// body is a message as NATS stores it.
func body(channel string, i int) []byte {
	m := proto.Message{Channel: channel, Event: proto.DefaultEvent, Data: data(i), Sender: "bench",
		Time: proto.FormatTime(time.Now())}
	return m.AppendBody(nil)
}
