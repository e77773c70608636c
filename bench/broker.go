//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
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
// a publisher in this one. All candidates get their messages from here.
type broker struct {
	url    string // of NATS
	varz   string // URL of NATS's state
	pprof  string // URL of NATS's profiler
	ingest string // base URL
	apiKey string
	epoch  string

	nats, front *process
	nc          *nats.Conn
	js          jetstream.JetStream
	refused     atomic.Int64 // publishes that were not acknowledged
}

// startBroker returns when messages can be stored. After an error, too, stop
// ends what it started.
func (b *bench) startBroker(ctx context.Context) (err error) {
	natsPort, err1 := freePort()
	ingestPort, err2 := freePort()
	statePort, err3 := freePort()
	profilePort, err4 := freePort()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	k := b.broker
	k.url, k.ingest, k.apiKey = "nats://127.0.0.1:"+natsPort, "http://127.0.0.1:"+ingestPort, rand.Text()
	k.varz, k.pprof = "http://127.0.0.1:"+statePort+"/varz", "http://127.0.0.1:"+profilePort
	config := filepath.Join(b.dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:%s\"\nhttp: \"127.0.0.1:%s\"\nprof_port: %s\njetstream { store_dir: %q }\n", natsPort, statePort, profilePort, b.dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	if k.nats, err = startProcess("nats-server", nil, nil, nil, b.natsd, "-c", config); err != nil {
		return err
	}
	err = k.nats.await(ctx, func() bool {
		k.nc, err = nats.Connect(k.url)
		return err == nil
	})
	if err != nil {
		return err
	}
	env := []string{"HERALD_API_KEY=" + k.apiKey}
	if k.front, err = startProcess("ingest", nil, nil, env, b.ingest, "-listen", "127.0.0.1:"+ingestPort, "-nats", k.url, "-log-level", "warn"); err != nil {
		return err
	}
	if err := k.front.awaitReady(ctx, k.ingest); err != nil {
		return err
	}
	return k.open(ctx)
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

// open makes the publisher.
func (k *broker) open(ctx context.Context) (err error) {
	k.js, err = jetstream.New(k.nc, jetstream.WithPublishAsyncErrHandler(func(jetstream.JetStream, *nats.Msg, error) { k.refused.Add(1) }))
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

func (k *broker) stop() {
	if k.nc != nil {
		k.nc.Close()
	}
	for _, p := range []*process{k.front, k.nats} {
		if p != nil {
			p.kill()
		}
	}
}

// load is what to publish: so many messages, so many a second, by bursts.
// channel says whither the i-th goes.
type load struct {
	messages  int
	perSecond float64
	burst     int
	channel   func(i int) string
}

// publish stores the load in the stream, at its pace as far as the machine
// keeps up, and returns when all of it is acknowledged.
func (k *broker) publish(ctx context.Context, l load) error {
	begin, before := time.Now(), k.refused.Load()
	for i := range l.messages {
		if err := l.wait(ctx, begin, i); err != nil {
			return err
		}
		channel := l.channel(i)
		if _, err := k.js.PublishAsync(proto.StoredSubject(channel), body(channel, i), jetstream.WithStallWait(10*time.Second)); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
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

// wait returns when the i-th message is due.
func (l load) wait(ctx context.Context, begin time.Time, i int) error {
	if i%l.burst != 0 {
		return nil
	}
	due := begin.Add(time.Duration(float64(i) / l.perSecond * float64(time.Second)))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}

// pass sends the load through NATS without storing it, to subjects that begin so.
func (k *broker) pass(ctx context.Context, l load, subjects string) error {
	begin := time.Now()
	for i := range l.messages {
		if err := l.wait(ctx, begin, i); err != nil {
			return err
		}
		channel := l.channel(i)
		if err := k.nc.Publish(subjects+channel, body(channel, i)); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
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

// padding fills data up.
const padding = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"

// data is one message's: JSON with the time, in nanoseconds since 1970.
func data(i int) []byte {
	b := fmt.Appendf(make([]byte, 0, dataBytes), `{"ts":%d,"n":%d,"d":"`, time.Now().UnixNano(), i)
	return append(append(b, padding[:dataBytes-2-len(b)]...), `"}`...)
}

// body is a message as NATS holds it.
func body(channel string, i int) []byte {
	m := proto.Message{Channel: channel, Event: proto.DefaultEvent, Data: data(i), Sender: "bench", Time: proto.FormatTime(time.Now())}
	return m.AppendBody(nil)
}
