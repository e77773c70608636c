package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/herald-push/herald/proto"
	"golang.org/x/time/rate"
)

// Key is what is kept of an API key. The key itself is shown once, when it is
// made, and kept nowhere.
//
//	{"id":"7f3a09c1","name":"shop","digest":"…64 hex digits…","may":["publish"],"channels":["orders.>"],
//	 "created":"2026-11-22T16:58:36.123Z"}
type Key struct {
	// ID is the first 8 hex digits of the digest: how people name one key.
	ID     string `json:"id"`
	Name   string `json:"name"`   // the sender of its messages; several keys may share it
	Digest string `json:"digest"` // hex SHA-256 of the key
	// May is what the key may do on its channels. Nil: it was made before keys
	// had scopes, and may do everything.
	May []Scope `json:"may,omitempty"`
	// Channels are the patterns of what it may do that with.
	Channels []string `json:"channels"`
	// Rate is messages a second, per ingest process, with a burst of as many;
	// 0 means no limit.
	Rate    float64   `json:"rate,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// MinKeyBytes is the shortest key that is accepted from an operator: below it
// a key can be guessed.
const MinKeyBytes = 16

// placeholders are keys that somebody copied from somewhere and forgot.
var placeholders = []string{"changeme", "change-me", "change_me", "secret", "password", "yourapikey", "your-api-key",
	"your_api_key", "api-key-here", "placeholder", "example", "insert", "replace"}

// CheckSecret reports whether a secret that an operator chose may be used:
// at least MinKeyBytes of printable ASCII, not a known placeholder, not one
// character over and over. The error never contains the secret.
func CheckSecret(what, s string) error { return checkSecret(what, s, MinKeyBytes) }

func checkSecret(what, s string, least int) error {
	if len(s) < least {
		return fmt.Errorf("%s has %d characters; use at least %d random ones, for example from: openssl rand -hex 24",
			what, len(s), least)
	}
	lower := strings.ToLower(s)
	for _, p := range placeholders {
		if strings.Contains(lower, p) {
			return fmt.Errorf("%s looks like a placeholder; use a random one, for example from: openssl rand -hex 24",
				what)
		}
	}
	distinct := map[byte]bool{}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Errorf("%s may have only printable ASCII without spaces", what)
		}
		distinct[s[i]] = true
	}
	if len(distinct) < 6 {
		return fmt.Errorf("%s repeats a few characters; use a random one, for example from: openssl rand -hex 24", what)
	}
	return nil
}

// NewSecret makes a random key: "hk_" and 160 bits in lower-case base32. The
// prefix lets scanners of leaked secrets recognise it.
func NewSecret() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return "hk_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// NewKey describes a key for storing. It checks what a person typed.
func NewKey(secret, name string, channels []string, may []Scope, now time.Time) (Key, error) {
	if err := CheckNewName(name); err != nil {
		return Key{}, fmt.Errorf("key name: %w", err)
	}
	if len(channels) == 0 {
		return Key{}, errors.New("a key needs at least one channel pattern; > means all channels")
	}
	for i, c := range channels {
		if err := proto.CheckPattern(c); err != nil {
			return Key{}, err
		}
		if slices.Contains(channels[:i], c) {
			return Key{}, fmt.Errorf("the channel %s is there twice", c)
		}
	}
	if len(may) == 0 {
		return Key{}, errors.New("a key that may do nothing is none")
	}
	digest := sha256.Sum256([]byte(secret))
	d := hex.EncodeToString(digest[:])
	return Key{ID: d[:8], Name: name, Digest: d, May: slices.Clone(may), Channels: slices.Clone(channels),
		Created: now.UTC().Truncate(time.Millisecond)}, nil
}

// CheckNewName reports whether a key or an app may be made with this name: it is a
// sender's (see proto.CheckName), and shows all that it has. A character that is invisible,
// or that turns the text around it, would let one name pass for another.
func CheckNewName(name string) error {
	if err := proto.CheckName(name); err != nil {
		return err
	}
	for _, r := range name {
		if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || unicode.IsSpace(r) && r != ' ' {
			return fmt.Errorf("%w: %+q has a character that cannot be seen", proto.ErrName, name)
		}
	}
	if strings.TrimSpace(name) != name {
		return fmt.Errorf("%w: %q begins or ends with a space", proto.ErrName, name)
	}
	return nil
}

// Check reports whether a key that comes from a store is whole: a name that is
// none would go into messages unescaped, a pattern that is none may match
// more than it seems to, and a negative rate would be no limit.
func (k *Key) Check() error {
	b, err := hex.DecodeString(k.Digest)
	if err != nil || len(b) != sha256.Size || len(k.ID) != 8 || !strings.HasPrefix(k.Digest, k.ID) {
		return fmt.Errorf("key %q: its digest is damaged", k.ID)
	}
	if err := proto.CheckName(k.Name); err != nil {
		return fmt.Errorf("key %q: %w", k.ID, err)
	}
	for _, c := range k.Channels {
		if err := proto.CheckPattern(c); err != nil {
			return fmt.Errorf("key %q: %w", k.ID, err)
		}
	}
	if k.May != nil && len(k.May) == 0 { // stored again it would look like one from before scopes
		return fmt.Errorf("key %q: it may do nothing", k.ID)
	}
	if !(k.Rate >= 0) { // NaN too
		return fmt.Errorf("key %q: a rate of %v", k.ID, k.Rate)
	}
	return nil
}

// Ring holds the keys that are valid now. Several may be valid under one
// name, so that keys can be rotated without downtime. Safe for concurrent
// use; the zero value is an empty ring.
type Ring struct {
	mu   sync.RWMutex
	keys map[string]*ringKey // guarded by mu; by ID
}

type ringKey struct {
	Key
	digest    [sha256.Size]byte
	principal *Principal
	limit     *rate.Limiter // nil: none
}

// Put adds a key or replaces the one with its ID. One that Check refuses is
// not added.
func (r *Ring) Put(k Key) error {
	if err := k.Check(); err != nil {
		return err
	}
	scopes := k.May
	if scopes == nil {
		scopes = Scopes
	}
	rk := &ringKey{Key: k, principal: &Principal{Name: k.Name, Channels: k.Channels, Scopes: scopes,
		Expires: k.Expires}}
	_, _ = hex.Decode(rk.digest[:], []byte(k.Digest)) // Check has decoded it
	if k.Rate > 0 {
		rk.limit = rate.NewLimiter(rate.Limit(k.Rate), max(1, int(min(k.Rate, math.MaxInt32))))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		r.keys = map[string]*ringKey{}
	}
	if old := r.keys[k.ID]; old != nil && old.Rate == k.Rate {
		rk.limit = old.limit // an update of something else does not refill the bucket
	}
	r.keys[k.ID] = rk
	return nil
}

// Delete revokes a key.
func (r *Ring) Delete(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.keys, id)
}

// Len is how many keys there are.
func (r *Ring) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.keys)
}

// Authenticate finds the key. The lookup is by the digest's first bytes,
// which an attacker can neither choose nor learn anything from; the
// comparison of the whole digest takes constant time. Errors are ErrNoKey,
// ErrUnknownKey and ErrExpired.
func (r *Ring) Authenticate(secret string, now time.Time) (Grant, error) {
	if secret == "" {
		return Grant{}, ErrNoKey
	}
	digest := sha256.Sum256([]byte(secret))
	var id [8]byte
	hex.Encode(id[:], digest[:4])
	r.mu.RLock()
	k := r.keys[string(id[:])]
	r.mu.RUnlock()
	if k == nil || subtle.ConstantTimeCompare(k.digest[:], digest[:]) != 1 {
		return Grant{}, ErrUnknownKey
	}
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		return Grant{}, fmt.Errorf("the API key has %w", ErrExpired)
	}
	return Grant{Principal: k.principal, KeyID: k.ID, limit: k.limit}, nil
}

// Grant is an authenticated key.
type Grant struct {
	*Principal
	KeyID string
	limit *rate.Limiter
}

// NewGrant is what a caller has who was authenticated in another way than by a key
// of a Ring: an app that signs its requests. id is what Places and logs know it by,
// limit its rate in messages; nil: none.
func NewGrant(p *Principal, id string, limit *rate.Limiter) Grant {
	return Grant{Principal: p, KeyID: id, limit: limit}
}

// Charge spends n messages of the key's rate. If there are too few, it spends
// none and says when to try again. More than Burst never pass.
func (g Grant) Charge(n int, now time.Time) (wait time.Duration, ok bool) {
	if g.limit == nil || n <= 0 {
		return 0, true
	}
	if n > g.limit.Burst() {
		return g.Refill(now), false
	}
	res := g.limit.ReserveN(now, n)
	if d := res.DelayFrom(now); d > 0 {
		res.CancelAt(now)
		return d, false
	}
	return 0, true
}

// Burst is how many messages the key may publish at once: as many as in a
// second, and one at least. 0 means any number.
func (g Grant) Burst() int {
	if g.limit == nil {
		return 0
	}
	return g.limit.Burst()
}

// Refill is how long it takes, with nothing published meanwhile, until Burst
// messages may be published at once.
func (g Grant) Refill(now time.Time) time.Duration {
	if g.limit == nil {
		return 0
	}
	missing := float64(g.limit.Burst()) - g.limit.TokensAt(now)
	seconds := missing / float64(g.limit.Limit())
	return time.Duration(max(0, min(seconds, math.MaxInt32)) * float64(time.Second))
}
