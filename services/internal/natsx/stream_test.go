package natsx_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestEnsureStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ensure := func(cfg natsx.StreamConfig) (string, *jetstream.StreamInfo) {
		t.Helper()
		epoch, err := natsx.EnsureStream(t.Context(), js, cfg)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), proto.Stream)
		if err != nil {
			t.Fatal(err)
		}
		return epoch, stream.CachedInfo()
	}
	epoch, info := ensure(natsx.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30})
	if epoch != proto.EpochOf(info.Created) {
		t.Errorf("epoch %s, created %s", epoch, info.Created)
	}
	c := info.Config
	if c.MaxAge != 24*time.Hour || c.MaxBytes != 1<<30 || c.Replicas != 1 || c.Duplicates != natsx.DuplicateWindow ||
		!c.AllowDirect || c.AllowMsgTTL ||
		c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy ||
		c.Discard != jetstream.DiscardOld || c.RePublish == nil || c.RePublish.Destination != "herald.live.>" {
		t.Errorf("got %+v", c)
	}
	if _, err := js.Publish(t.Context(), "herald.msg.a", []byte(`{"channel":"a"}`)); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		cfg    natsx.StreamConfig
		window time.Duration
	}{
		{natsx.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30}, 2 * time.Minute}, // nothing changed
		{natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 1 << 20}, 2 * time.Minute},
		{natsx.StreamConfig{MaxAge: time.Minute, MaxBytes: 1 << 20}, time.Minute},
		{natsx.StreamConfig{}, 2 * time.Minute}, // no limits
		{natsx.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30, Replicas: 1}, 2 * time.Minute},
	} {
		again, info := ensure(change.cfg)
		if again != epoch || info.State.Msgs != 1 {
			t.Errorf("%+v: epoch %s became %s, %d messages", change.cfg, epoch, again, info.State.Msgs)
		}
		wantBytes := change.cfg.MaxBytes
		if wantBytes == 0 {
			wantBytes = -1
		}
		if info.Config.MaxAge != change.cfg.MaxAge || info.Config.MaxBytes != wantBytes ||
			info.Config.Duplicates != change.window {
			t.Errorf("%+v: got age %s, bytes %d, window %s", change.cfg, info.Config.MaxAge, info.Config.MaxBytes,
				info.Config.Duplicates)
		}
	}
	if _, err := natsx.EnsureStream(t.Context(), js, natsx.StreamConfig{MaxAge: time.Hour, Replicas: 3}); err == nil ||
		!strings.HasPrefix(err.Error(), "declare stream HERALD: ") {
		t.Errorf("three replicas on one server: got %v", err)
	}
}

// The first epoch is the stream's creation time: it must be the same number
// before and after a restart, and another one when the stream is made anew.
func TestEpochSurvivesRestart(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, epoch := s.Stream(nc)
	if again, err := natsx.AwaitStream(t.Context(), js, natsx.NewPulse(nc, quiet), natstest.Log(t)); err != nil ||
		proto.EpochOf(again.CachedInfo().Created) != epoch {
		t.Errorf("another question, another epoch: %v, %v", again, err)
	}
	for range 3 {
		s.Restart()
		natstest.Eventually(t, 30*time.Second, "connected again", nc.IsConnected)
		stream, err := natsx.AwaitStream(t.Context(), js, natsx.NewPulse(nc, quiet), natstest.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := natsx.EpochsOf(stream.CachedInfo()).At(0); got != epoch {
			t.Errorf("after a restart: got %s, want %s", got, epoch)
		}
		s.Stream(nc) // declared again, as a restarted ingest does
		if e := epochsOf(t, js); e.At(0) != epoch || !e.Known(epoch, 0) {
			t.Errorf("declared after a restart: got %v, want %s to begin with", e, epoch)
		}
	}
	if err := js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	var anew string
	// The server may still be clearing the old one's folder away.
	natstest.Eventually(t, 30*time.Second, "the stream is made anew", func() bool {
		var err error
		anew, err = natsx.EnsureStream(t.Context(), js, natsx.StreamConfig{MaxAge: time.Hour})
		return err == nil
	})
	if anew == epoch {
		t.Error("a stream that was made anew has the old epoch")
	}
}

func TestAwaitStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := natsx.AwaitStream(ctx, js, natsx.NewPulse(nc, quiet), quiet); !errors.Is(err,
		context.DeadlineExceeded) ||
		!strings.HasPrefix(err.Error(), "wait for stream HERALD: ") {
		t.Errorf("got %v", err)
	}
	found := make(chan error, 1)
	go func() {
		_, err := natsx.AwaitStream(t.Context(), js, natsx.NewPulse(nc, quiet), quiet)
		found <- err
	}()
	s.Stream(nc)
	if err := <-found; err != nil {
		t.Error(err)
	}
}

// Who waits says why, each reason once: no server, one that is too old.
func TestAwaitStreamSaysWhy(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"no server", "nats://127.0.0.1:1", "NATS is not connected"},
		{"an old one", pretender(t, "2.10.0"),
			"level=WARN msg=\"waiting for the stream; ingest declares it\" stream=HERALD err=\"nats-server is too old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := nats.Connect(c.url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			var out logtest.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond) // three attempts
			defer cancel()
			if _, err := natsx.AwaitStream(ctx, js, natsx.NewPulse(nc, quiet),
				slog.New(slog.NewTextHandler(&out, nil))); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
			if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want one line with %q", got, c.want)
			}
		})
	}
}

// An earlier Herald let messages have a Nats-TTL. NATS does not take that back from a stream, and refuses who tries.
func TestStreamOfAnEarlierVersionKeepsItsTTL(t *testing.T) {
	s := natstest.Start(t)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	old := jetstream.StreamConfig{Name: proto.Stream, Subjects: []string{proto.SubjectStored + ">"}, AllowDirect: true,
		AllowMsgTTL: true}
	if _, err := js.CreateStream(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second changes nothing
		if _, err := natsx.EnsureStream(t.Context(), js, natsx.StreamConfig{MaxAge: time.Hour,
			MaxBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; !c.AllowMsgTTL || c.MaxAge != time.Hour || len(c.Subjects) != 2 {
		t.Errorf("got %+v", c)
	}
}

// Who starts is told how far those who run have seen the stream to get, by epoch.
func TestAskKnown(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	if known, err := natsx.AskKnown(t.Context(), nc); err != nil || len(known) != 0 {
		t.Errorf("nobody is there: got %v, %v", known, err)
	}
	for _, has := range []struct {
		epoch string
		seq   uint64
	}{{"", 9}, {"b", 7}, {"b", 8}, {"a", 100}} {
		other := s.Connect()
		stop, err := natsx.ServeKnown(other, func() (string, uint64) { return has.epoch, has.seq })
		if err == nil {
			err = other.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	var known natsx.Known
	natstest.Eventually(t, 30*time.Second, "all three answer", func() (all bool) {
		var err error
		if known, err = natsx.AskKnown(t.Context(), nc); err != nil {
			t.Fatal(err)
		}
		return len(known) == 3
	})
	if got := known.Last("b"); got != 8 {
		t.Errorf("got %d, want the newest of the epoch, 8", got)
	}
	if got := known.Last("c"); got != 0 {
		t.Errorf("an epoch that nobody knows: got %d", got)
	}
}
