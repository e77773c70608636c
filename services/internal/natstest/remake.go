package natstest

import (
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// RemakeStream deletes the stream and declares it again as it was, stores messages in it, and returns its epoch.
func RemakeStream(t testing.TB, nc *nats.Conn, messages int) string {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	// A stream that is made while nats-server 2.15.2 still removes the files of
	// the old one may begin with messages of it: then once more.
	for fresh := false; !fresh; fresh = s.CachedInfo().State.LastSeq == 0 {
		if err := js.DeleteStream(t.Context(), proto.Stream); err != nil {
			t.Fatal(err)
		}
		if s, err = js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	for range messages {
		const body = `{"channel":"a","event":"message","data":1,"sender":"x","time":"2026-11-22T16:58:36.123Z"}`
		if _, err := js.Publish(t.Context(), proto.SubjectStored+"a", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	return natsx.EpochsOf(s.CachedInfo()).Newest()
}
