package pusher

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
)

// App is who may use the Pusher protocol, for channels of its own.
//
//	{"id":"4711170","name":"shop","prefix":"pusher.4711170","keys":[{"key":"…","secret":"…","created":"…"}],
//	 "created":"2026-11-28T16:58:36.123Z"}
type App struct {
	ID     string `json:"id"`     // in URLs: /apps/4711170/events
	Name   string `json:"name"`   // the sender of its messages
	Prefix string `json:"prefix"` // its channels are below: see Channel
	Keys   []Key  `json:"keys"`   // oldest first; several are valid while one is rotated
	// Rate is messages a second that it may publish, per ingest, with a burst of as
	// many; 0 means no limit.
	Rate    float64   `json:"rate,omitempty"`
	Created time.Time `json:"created"`
}

// Key is a key, which clients have in their URL and everybody may know, and its
// secret, with which backends sign.
type Key struct {
	Key     string    `json:"key"`
	Secret  string    `json:"secret"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// Valid reports whether the key has not ended.
func (k *Key) Valid(now time.Time) bool { return k.Expires.IsZero() || now.Before(k.Expires) }

const (
	// minSecretBytes is what Pusher's own secrets have, which people bring along.
	minSecretBytes = 16
	maxWordBytes   = 64
)

// NewID is a random id of an app: digits, since some SDKs accept nothing else.
func NewID() string {
	n, _ := rand.Int(rand.Reader, big.NewInt(9_000_000)) // never fails (crypto/rand since Go 1.24)
	return n.Add(n, big.NewInt(1_000_000)).String()
}

// NewKey makes a random key: 80 bits, of which nobody has to keep any secret, and
// 128 bits of secret.
func NewKey(now time.Time) Key {
	var key [10]byte
	var secret [16]byte
	_, _ = rand.Read(key[:])
	_, _ = rand.Read(secret[:])
	return Key{Key: hex.EncodeToString(key[:]), Secret: hex.EncodeToString(secret[:]),
		Created: now.UTC().Truncate(time.Millisecond)}
}

// DefaultPrefix is that of an app for which nobody chose one.
func DefaultPrefix(id string) string { return "pusher." + id }

// Check reports whether an app is whole, be it typed by a person or read from a
// store. The error never has a secret.
func (a *App) Check() error {
	if err := checkWord("id", a.ID, 1); err != nil {
		return fmt.Errorf("app: %w", err)
	}
	fault := func(format string, args ...any) error {
		return fmt.Errorf("app %s: %w", a.ID, fmt.Errorf(format, args...))
	}
	if err := proto.CheckName(a.Name); err != nil {
		return fault("name: %w", err)
	}
	if err := proto.CheckChannel(a.Prefix); err != nil {
		return fault("prefix: %w", err)
	}
	if len(a.Prefix)+1+MaxChannelBytes > proto.MaxChannelBytes {
		return fault("prefix: it has %d bytes; with at most %d every name of a channel has room", len(a.Prefix),
			proto.MaxChannelBytes-MaxChannelBytes-1)
	}
	if !(a.Rate >= 0) { // NaN too
		return fault("a rate of %v; want messages a second, or 0 for no limit", a.Rate)
	}
	if len(a.Keys) == 0 {
		return fault("it has no key")
	}
	for _, k := range a.Keys {
		if err := checkWord("key", k.Key, 8); err != nil {
			return fault("%w", err)
		}
		if len(k.Secret) < minSecretBytes {
			return fault("the secret of key %s has %d characters; use at least %d random ones", k.Key, len(k.Secret),
				minSecretBytes)
		}
	}
	return nil
}

// checkWord reports whether s may be an id or a key: it stands in URLs and in
// subjects of NATS.
func checkWord(what, s string, least int) error {
	if len(s) < least || len(s) > maxWordBytes {
		return fmt.Errorf("%s: it has %d characters, want %d to %d", what, len(s), least, maxWordBytes)
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return fmt.Errorf("%s: %q; letters, digits, _ and - are allowed", what, s)
		}
	}
	return nil
}

// Rotated is the app with one more key; those that it has end in grace at the
// latest. Those that have ended already are left out.
func (a App) Rotated(k Key, grace time.Duration, now time.Time) App {
	end := now.Add(grace).UTC().Truncate(time.Second)
	keys := slices.Clone(a.Keys)
	keys = slices.DeleteFunc(keys, func(k Key) bool { return !k.Valid(now) })
	for i := range keys {
		if keys[i].Expires.IsZero() || keys[i].Expires.After(end) {
			keys[i].Expires = end
		}
	}
	a.Keys = append(keys, k)
	return a
}

// key finds a valid key; nil: there is none.
func (a *App) key(key string, now time.Time) *Key {
	for i := range a.Keys {
		if a.Keys[i].Key == key && a.Keys[i].Valid(now) {
			return &a.Keys[i]
		}
	}
	return nil
}

// Pattern matches all channels of the app.
func (a *App) Pattern() string { return a.Prefix + ".>" }

// errTooLong is of names with many dots that follow each other.
var errTooLong = errors.New("with the app's prefix it is longer than Herald's channels may be")

// Channel is the Herald channel of a channel of the app. The error says what is
// wrong with its name.
func (a *App) Channel(name string) (string, error) {
	if err := CheckChannel(name); err != nil {
		return "", err
	}
	c := a.Prefix + "." + channel(name)
	if len(c) > proto.MaxChannelBytes {
		return "", fmt.Errorf("%w: %s: %w", ErrChannel, name, errTooLong)
	}
	return c, nil
}

// ChannelName is the reverse of Channel. ok is false for a channel of which no
// Pusher client knows.
func (a *App) ChannelName(channel string) (_ string, ok bool) {
	rest, ok := strings.CutPrefix(channel, a.Prefix+".")
	if !ok {
		return "", false
	}
	return name(rest)
}
