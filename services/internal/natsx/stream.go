package natsx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StreamConfig is what operators choose about the stream.
type StreamConfig struct {
	MaxAge   time.Duration
	MaxBytes int64
	Replicas int
}

// DuplicateWindow is how long NATS remembers idempotency keys.
const DuplicateWindow = 2 * time.Minute

// ErrLimitsKept: NATS did not change how much the stream keeps (age, bytes), or
// did not note that another epoch begins, mostly for want of room. The stream is
// there and can be read; a caller that needs the new limits calls EnsureStream again later.
var ErrLimitsKept = errors.New("the stream keeps the limits that it has")

// EnsureStream declares the stream HERALD, or brings an existing one to this
// configuration, and begins another epoch where the stream may have lost its
// newest messages; see Epochs. It returns the newest epoch. Ingest owns the
// declaration; the others wait for it with AwaitStream. With an epoch the error,
// if any, is ErrLimitsKept.
func EnsureStream(ctx context.Context, js jetstream.JetStream, cfg StreamConfig) (epoch string, err error) {
	e, err := declare(ctx, js, cfg, "")
	if err != nil && !errors.Is(err, ErrLimitsKept) {
		return "", err
	}
	return e.Newest(), err
}

// RenewEpoch is EnsureStream for somebody who knows that the stream ends before
// something that was stored: unless the newest epoch is another than lost
// already, a new one begins.
func RenewEpoch(ctx context.Context, js jetstream.JetStream, cfg StreamConfig, lost string) (Epochs, error) {
	return declare(ctx, js, cfg, lost)
}

func declare(ctx context.Context, js jetstream.JetStream, cfg StreamConfig, lost string) (Epochs, error) {
	want := cfg.stream()
	server, clustered := Process(js.Conn())
	old, err := js.Stream(ctx, proto.Stream)
	// Otherwise the answer may be of another server, or of another life of this one.
	if now, _ := Process(js.Conn()); server == "" || now != server {
		return Epochs{}, fmt.Errorf("declare stream %s: %w", proto.Stream, nats.ErrDisconnected)
	}
	if clustered {
		server = ""
	}
	var has jetstream.StreamConfig
	var changed bool // the epochs
	if err == nil {
		info := old.CachedInfo()
		has = info.Config
		var e Epochs
		if e, changed = EpochsOf(info).renew(info, server, lost); !changed && sameStream(has, want) &&
			sameLimits(has, want) {
			// Changing nothing would write to the disk all the same, which may be full.
			return e, nil
		}
		want.Metadata = e.metadata(has.Metadata)
		want.AllowMsgTTL = has.AllowMsgTTL // NATS refuses to switch it off for a stream that an earlier Herald made
	} else if server != "" {
		want.Metadata = map[string]string{metaServer: server}
	}
	s, err := js.CreateOrUpdateStream(ctx, want)
	if err != nil && old != nil && sameStream(has, want) && shrink(ctx, old, want.MaxBytes) {
		s, err = js.CreateOrUpdateStream(ctx, want)
	}
	if err == nil {
		return EpochsOf(s.CachedInfo()), nil
	}
	err = fmt.Errorf("declare stream %s: %w", proto.Stream, err)
	if old == nil || !sameStream(has, want) || has.Replicas != want.Replicas {
		return Epochs{}, err
	}
	err = fmt.Errorf("%w: %s and %d bytes, not %s and %d bytes: %w", ErrLimitsKept, has.MaxAge, has.MaxBytes,
		want.MaxAge, want.MaxBytes, err)
	if changed { // perhaps it is the limits alone that cannot be changed
		want.MaxAge, want.MaxBytes, want.Duplicates = has.MaxAge, has.MaxBytes, has.Duplicates
		if s, failed := js.UpdateStream(ctx, want); failed == nil {
			return EpochsOf(s.CachedInfo()), err
		}
	}
	return EpochsOf(old.CachedInfo()), err
}

// shrink removes the oldest messages of a stream that has more than maxBytes, and
// reports whether it did. A lower limit does so by itself; but to note it needs
// room on the disk, which may be full, and that may be why it was lowered.
func shrink(ctx context.Context, s jetstream.Stream, maxBytes int64) bool {
	state := s.CachedInfo().State
	if maxBytes <= 0 || state.Bytes <= uint64(maxBytes) {
		return false
	}
	keep := uint64(float64(state.Msgs) * float64(maxBytes) / float64(state.Bytes)) // as they are on average
	return s.Purge(ctx, jetstream.WithPurgeKeep(max(1, keep))) == nil
}

// stream is the whole configuration of the stream HERALD.
func (cfg StreamConfig) stream() jetstream.StreamConfig {
	maxAge := cfg.MaxAge // 0: messages stay until MaxBytes is reached
	if maxAge == 0 {
		maxAge = DuplicateWindow
	}
	return jetstream.StreamConfig{
		Name:        proto.Stream,
		Description: "Every message that Herald stored; see PROTOCOL.md",
		Subjects:    []string{proto.SubjectPacks, proto.SubjectStored + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      cfg.MaxAge,
		MaxBytes:    cfg.MaxBytes,
		Replicas:    max(1, cfg.Replicas),
		Duplicates:  min(DuplicateWindow, maxAge),
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: "herald.>", Destination: proto.SubjectLive + ">"},
	}
}

// sameStream compares what a stream of Herald must have. What an operator may
// add, such as placement or metadata, does not count.
func sameStream(has, want jetstream.StreamConfig) bool {
	pick := func(c jetstream.StreamConfig) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Description: c.Description, Subjects: c.Subjects, Storage: c.Storage, Retention: c.Retention,
			Discard:     c.Discard,
			AllowDirect: c.AllowDirect, RePublish: c.RePublish,
		}
	}
	return reflect.DeepEqual(pick(has), pick(want))
}

// sameLimits compares the rest of what StreamConfig decides.
func sameLimits(has, want jetstream.StreamConfig) bool {
	return has.MaxAge == want.MaxAge && max(0, has.MaxBytes) == max(0, want.MaxBytes) &&
		has.Replicas == want.Replicas && has.Duplicates == want.Duplicates
}

// AwaitStream waits until NATS is there, new enough, and somebody has declared
// the stream, and returns it. Each reason to wait is logged once, as the one
// may follow another. pulse records whether the stream answers. The error is
// ctx's.
func AwaitStream(ctx context.Context, js jetstream.JetStream, pulse *Pulse, log *slog.Logger) (jetstream.Stream,
	error) {
	waiting := retry.Policy{
		Pause: 250 * time.Millisecond,
		Every: func(err error) {
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				pulse.Alive() // a cluster that answers
			} else {
				pulse.Missed(err)
			}
		},
		Log: func(err error) {
			level := slog.LevelInfo
			if errors.Is(err, ErrServerTooOld) { // waiting alone does not help
				level = slog.LevelWarn
			}
			log.Log(ctx, level, "waiting for the stream; ingest declares it", "stream", proto.Stream, "err", err)
		},
	}
	var s jetstream.Stream
	err := waiting.Until(ctx, func(ctx context.Context) (err error) {
		s, err = findStream(ctx, js)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for stream %s: %w", proto.Stream, err)
	}
	pulse.Answered(s.CachedInfo().Cluster)
	return s, nil
}

func findStream(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	if !js.Conn().IsConnected() {
		return nil, errors.New("NATS is not connected")
	}
	if err := CheckServer(js.Conn()); err != nil {
		return nil, err
	}
	return js.Stream(ctx, proto.Stream)
}
