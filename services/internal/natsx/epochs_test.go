package natsx_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func epochsOf(t testing.TB, js jetstream.JetStream) natsx.Epochs {
	t.Helper()
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	return natsx.EpochsOf(s.CachedInfo())
}

// A single server that was started anew may have lost its newest messages, so
// that another epoch begins; ids of the one before are good up to there.
func TestEpochBeginsWithTheServer(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, first := s.Stream(nc)
	store(t, js, "a", "a", "a")
	if _, again := s.Stream(nc); again != first {
		t.Errorf("declared again by the same server: got %s, want %s", again, first)
	}
	before := epochsOf(t, js)
	s.Restart()
	natstest.Eventually(t, 30*time.Second, "connected again", nc.IsConnected)
	natstest.Eventually(t, 30*time.Second, "the stream is there", func() bool {
		_, err := js.Stream(t.Context(), proto.Stream)
		return err == nil
	})
	if e := epochsOf(t, js); !e.Equal(before) || e.Covers(nc) {
		t.Errorf("before it is declared: got %v, foreseen %v", e, e.Covers(nc))
	}
	_, second := s.Stream(nc)
	store(t, js, "a")
	e := epochsOf(t, js)
	if second == first || e.Newest() != second || e.Begins() != 4 || !e.Covers(nc) {
		t.Errorf("got %s from %d, then %s", e.Newest(), e.Begins(), first)
	}
	if got := []string{e.At(1), e.At(3), e.At(4), e.At(100)}; !slices.Equal(got,
		[]string{first, first, second, second}) {
		t.Errorf("ids of 1, 3, 4 and 100: got %q", got)
	}
	for _, c := range []struct {
		name string
		seq  uint64
		want bool
	}{{first, 0, true}, {first, 3, true}, {first, 4, false}, {second, 4, true}, {second, 1000, true},
		{"mib3k2x9", 1, false}} {
		if got := e.Known(c.name, c.seq); got != c.want {
			t.Errorf("%s-%d: known %v, want %v", c.name, c.seq, got, c.want)
		}
	}
	if !e.Same(before, 3) || e.Same(before, 4) {
		t.Error("message 3 is the same as before, and 4 is another one than before")
	}
}

// Somebody who saw more than there is begins an epoch; others who saw it too
// begin no further one.
func TestRenewEpoch(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, first := s.Stream(nc)
	store(t, js, "a", "a")
	cfg := natsx.StreamConfig{MaxAge: time.Hour}
	for range 2 {
		e, err := natsx.RenewEpoch(t.Context(), js, cfg, first)
		if err != nil || e.Newest() == first || e.Begins() != 3 || e.At(2) != first {
			t.Fatalf("got %s from %d, %v", e.Newest(), e.Begins(), err)
		}
	}
	// However often it happens, and whatever the clock says, names grow, and the
	// list does not.
	for range 100 {
		newest := epochsOf(t, js).Newest()
		if e, err := natsx.RenewEpoch(t.Context(), js, cfg, newest); err != nil || e.Newest() <= newest {
			t.Fatalf("got %s after %s, %v", e.Newest(), newest, err)
		}
	}
	if e := epochsOf(t, js); e.Known(first, 1) {
		t.Errorf("after a hundred: %v", e)
	}
}

// Who holds the id of what was lost goes on where the epoch after that begins, whether or
// not the stream still knows the epoch of the id.
func TestLost(t *testing.T) {
	created := time.UnixMilli(1_795_000_000_000)
	at := func(minutes int) string { return proto.EpochOf(created.Add(time.Duration(minutes) * time.Minute)) }
	info := &jetstream.StreamInfo{Created: created}
	info.Config.Metadata = map[string]string{"herald-epochs": at(0) + ":1," + at(10) + ":100," + at(30) + ":200"}
	e := natsx.EpochsOf(info)
	for _, c := range []struct {
		what   string
		epoch  string
		seq    uint64
		begins uint64 // 0: it is not lost
	}{
		{"there", at(0), 99, 0},
		{"behind the end of its epoch", at(0), 100, 100},
		{"far behind it", at(0), 1000, 100},
		{"behind the end of the second", at(10), 200, 200},
		{"in the newest, which may get as far", at(30), 999, 0},
		{"of an epoch that is gone with what it had", at(20), 150, 200},
		{"the same, at a sequence that there is", at(20), 5, 200},
		{"of an epoch between the first ones", at(5), 101, 100},
		{"of an epoch that has not begun", at(40), 250, 0},
		{"of another stream, before this one", at(-10), 250, 0},
	} {
		if begins, lost := e.Lost(c.epoch, c.seq); begins != c.begins || lost != (c.begins > 0) {
			t.Errorf("%s: got %d, %t; want %d", c.what, begins, lost, c.begins)
		}
	}
}

// Metadata that an operator copied from another stream says nothing about this
// one, and his own stays.
func TestEpochsOfAnotherStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	old := epochsOf(t, js)
	if _, err := natsx.RenewEpoch(t.Context(), js, natsx.StreamConfig{}, old.Newest()); err != nil {
		t.Fatal(err)
	}
	found, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := found.CachedInfo().Config
	config.Metadata["owner"] = "ops"
	if err := js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // epochs are told apart by the millisecond
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if e := epochsOf(t, js); e.Known(old.Newest(), 1) || e.Begins() != 1 {
		t.Errorf("got %v, of another stream", e)
	}
	s.Stream(nc)
	if found, err = js.Stream(t.Context(), proto.Stream); err != nil ||
		found.CachedInfo().Config.Metadata["owner"] != "ops" {
		t.Errorf("got %v, %v", found.CachedInfo().Config.Metadata, err)
	}
}

// The connection is lost while the stream is declared, and is back before the answer: that is no other server, and no
// other epoch begins.
func TestNoEpochBeginsWithAConnection(t *testing.T) {
	s := natstest.Start(t)
	wire := natstest.NewWire(t, s)
	nc, err := natsx.Connect(natsx.Config{URL: wire.URL, Name: "test"}, natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, first := s.Stream(nc)
	_, err = natsx.EnsureStream(t.Context(), interrupted{js, func() {
		wire.Closed.Store(true)
		wire.Cut()
		natstest.Eventually(t, time.Minute, "disconnected", func() bool { return !nc.IsConnected() })
	}, func() {
		wire.Closed.Store(false)
		natstest.Eventually(t, time.Minute, "connected again", nc.IsConnected)
	}}, natsx.StreamConfig{})
	if !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("got %v, want one that wraps %v", err, nats.ErrDisconnected)
	}
	wire.Closed.Store(false)
	natstest.Eventually(t, time.Minute, "connected again", nc.IsConnected)
	if got := epochsOf(t, js).Newest(); got != first {
		t.Errorf("got epoch %s, want %s", got, first)
	}
}

// interrupted loses the connection when the stream was read, and has it again when the stream is to be changed.
type interrupted struct {
	jetstream.JetStream
	lose, mend func()
}

func (i interrupted) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := i.JetStream.Stream(ctx, name)
	i.lose()
	return s, err
}

func (i interrupted) CreateOrUpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	i.mend()
	return i.JetStream.CreateOrUpdateStream(ctx, cfg)
}
