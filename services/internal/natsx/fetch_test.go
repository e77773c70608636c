package natsx_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// store publishes one message to each channel, in order; the first has
// sequence 1 if the stream is new.
func store(t testing.TB, js jetstream.JetStream, channels ...string) {
	t.Helper()
	if _, err := natstest.Publish(js.Conn(), func(yield func(*nats.Msg) bool) {
		for i, c := range channels {
			if !yield(natstest.NewMsg(message(c, fmt.Sprint(i)), natstest.Headers{}, false)) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// seqs are the stream sequences of messages.
func seqs(messages []natsx.Received) []uint64 {
	out := make([]uint64, len(messages))
	for i, m := range messages {
		out[i] = proto.PackOf(m.Number)
	}
	return out
}

// storePack stores one pack with a message for each channel.
func storePack(t testing.TB, js jetstream.JetStream, channels ...string) {
	t.Helper()
	var p proto.Pack
	for i, c := range channels {
		p.Add(message(c, fmt.Sprint(i)), proto.Private{Accepted: time.Now(), Source: "192.0.2.1"})
	}
	msg := &nats.Msg{Subject: proto.SubjectPacks, Data: slices.Clone(p.Body()),
		Header: nats.Header{proto.HeaderChannels: {string(p.AppendChannels(nil))}}}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

// stream starts a server with the stream and stores one message to each channel.
func stream(t testing.TB, channels ...string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	store(t, js, channels...)
	return nc, js
}

// Without a stream nobody answers. That is to be known at once, not after a timeout.
func TestNoStream(t *testing.T) {
	nc := natstest.Start(t).Connect()
	r := natsx.NewReader(nc, nil)
	for name, ask := range map[string]func(context.Context) error{
		"Read": func(ctx context.Context) error {
			_, err := r.Read(ctx, natsx.Range{Names: []string{"a"}, UpTo: proto.EndOf(1), Messages: 1})
			return err
		},
		"Last": func(ctx context.Context) error {
			_, err := r.Last(ctx, []string{"a"}, proto.EndOf(1), 0)
			return err
		},
	} {
		begin := time.Now()
		if err := ask(t.Context()); !errors.Is(err, nats.ErrNoResponders) &&
			!errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), "stream HERALD") {
			t.Errorf("%s: got %v", name, err)
		}
		if took := time.Since(begin); took > 4*time.Second { // five are for who does not answer
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestReadWhileNATSIsAway(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	store(t, js, "a")
	r := natsx.NewReader(nc, nil)
	read := func() error {
		_, err := r.Read(t.Context(), natsx.Range{Names: []string{"a"}, UpTo: proto.EndOf(1), Messages: 1})
		return err
	}
	s.Stop()
	natstest.Eventually(t, 30*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	begin := time.Now()
	if read() == nil {
		t.Error("no error")
	}
	if took := time.Since(begin); took > 4*time.Second { // five are for who does not answer
		t.Errorf("took %s", took)
	}
	s.Restart()
	natstest.Eventually(t, 30*time.Second, "history is back", func() bool { return read() == nil })
}

// A server that never answers: only the caller's patience ends it.
func TestReadEndsWithItsContext(t *testing.T) {
	nc := natstest.Start(t).Connect()
	sub, err := nc.Subscribe("$JS.API.DIRECT.GET.HERALD", func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = natsx.NewReader(nc, nil).Read(ctx, natsx.Range{Names: []string{"a"}, UpTo: proto.EndOf(1), Messages: 1})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 4*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begin))
	}
	if n := nc.NumSubscriptions(); n != 1 {
		t.Errorf("%d subscriptions remain, want the test's own", n)
	}
}
