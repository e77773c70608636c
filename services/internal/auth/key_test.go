package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newKey makes a key that may publish everywhere.
func newKey(t testing.TB, secret, name string) auth.Key {
	t.Helper()
	k, err := auth.NewKey(secret, name, []string{">"}, auth.Scopes, noon)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCheckSecret(t *testing.T) {
	const random = "4f9d1c0b7a3e5d2c8b6a"
	for _, c := range []struct{ name, secret, fault string }{
		{"random hex", random, ""},
		{"16 characters", random[:16], ""},
		{"punctuation", "aB3$%^&*()_+-=[]{}|", ""},
		{"one of ours", auth.NewSecret(), ""},
		{"empty", "", "has 0 characters; use at least 16"},
		{"15 characters", random[:15], "has 15 characters; use at least 16"},
		{"changeme", "changeme-changeme", "looks like a placeholder"},
		{"upper case", "CHANGE-ME-PLEASE-NOW", "looks like a placeholder"},
		{"change_me", "please_change_me_now", "looks like a placeholder"},
		{"your api key", "your-api-key-goes-here", "looks like a placeholder"},
		{"YOUR_API_KEY", "<YOUR_API_KEY_1234>", "looks like a placeholder"},
		{"api key here", "put-api-key-here-123", "looks like a placeholder"},
		{"placeholder", "this-is-a-placeholder", "looks like a placeholder"},
		{"example", "example-key-01234567", "looks like a placeholder"},
		{"secret", "my-super-secret-value", "looks like a placeholder"},
		{"password", "password1234567890", "looks like a placeholder"},
		{"insert", "insert-something-good", "looks like a placeholder"},
		{"replace", "replace-this-0123456", "looks like a placeholder"},
		{"one character", strings.Repeat("a", 40), "repeats a few characters"},
		{"five characters", strings.Repeat("abcde", 8), "repeats a few characters"},
		{"six characters", strings.Repeat("abcdef", 8), ""},
		{"blank inside", random + " " + random, "only printable ASCII without spaces"},
		{"line break", random + "\n", "only printable ASCII without spaces"},
		{"umlaut", random + "ä", "only printable ASCII without spaces"},
		{"delete", random + "\x7f", "only printable ASCII without spaces"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := auth.CheckSecret("HERALD_API_KEY", c.secret)
			if c.fault == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "HERALD_API_KEY ") ||
				!strings.Contains(err.Error(), c.fault) {
				t.Fatalf("got %v, want %q", err, c.fault)
			}
			if c.secret != "" && strings.Contains(err.Error(), c.secret) {
				t.Errorf("the error has the secret: %v", err)
			}
		})
	}
}

func TestNewSecret(t *testing.T) {
	form := regexp.MustCompile(`^hk_[a-z2-7]{32}$`)
	seen := map[string]bool{}
	for range 1000 {
		s := auth.NewSecret()
		if !form.MatchString(s) || seen[s] {
			t.Fatalf("got %q", s)
		}
		seen[s] = true
	}
}

func TestNewKey(t *testing.T) {
	channels := []string{"orders.*"}
	k, err := auth.NewKey("the-secret", "shop", channels, []auth.Scope{auth.Publish}, noon.Add(123456789))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("the-secret"))
	if want := hex.EncodeToString(digest[:]); k.Digest != want || k.ID != want[:8] {
		t.Errorf("got %+v", k)
	}
	b, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(
		`{"id":%q,"name":"shop","digest":%q,"may":["publish"],"channels":["orders.*"],`+
			`"created":"2026-11-22T12:00:00.123Z"}`,
		k.ID, k.Digest)
	if string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	channels[0] = ">"
	if k.Channels[0] != "orders.*" {
		t.Error("the key changed with the caller's slice")
	}
	for _, c := range []struct {
		name     string
		channels []string
		want     string
	}{
		{"", []string{">"}, "key name: invalid name: it is empty"},
		{"a\"b", []string{">"}, "key name: invalid name"},
		{"shop", nil, "a key needs at least one channel pattern; > means all channels"},
		{"shop", []string{"a.>.b"}, "invalid channel"},
		{"shop", []string{"ok", ""}, "invalid channel: it is empty"},
	} {
		if _, err := auth.NewKey("the-secret", c.name, c.channels, auth.Scopes, noon); err == nil ||
			!strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q %q: got %v, want %q", c.name, c.channels, err, c.want)
		}
	}
}

func TestRing(t *testing.T) {
	var r auth.Ring // the zero value is usable
	if _, err := r.Authenticate("anything", noon); !errors.Is(err, auth.ErrUnknownKey) {
		t.Errorf("empty ring: got %v", err)
	}
	r.Delete("12345678") // of nothing
	one, two := newKey(t, "first-secret-of-shop", "shop"), newKey(t, "second-secret-of-shop", "shop")
	for _, k := range []auth.Key{one, two, one} {
		if err := r.Put(k); err != nil {
			t.Fatal(err)
		}
	}
	if r.Len() != 2 {
		t.Errorf("got %d keys, want 2", r.Len())
	}
	for _, c := range []struct {
		secret string
		id     string
		err    error
	}{
		{"first-secret-of-shop", one.ID, nil},
		{"second-secret-of-shop", two.ID, nil}, // both are valid: rotation
		{"", "", auth.ErrNoKey},
		{"third-secret-of-shop", "", auth.ErrUnknownKey},
		{"first-secret-of-sho", "", auth.ErrUnknownKey},
		{one.Digest, "", auth.ErrUnknownKey}, // who stole the bucket has no key
		{one.ID, "", auth.ErrUnknownKey},
	} {
		g, err := r.Authenticate(c.secret, noon)
		if err != c.err {
			t.Errorf("%q: got %v, want %v", c.secret, err, c.err)
		}
		if c.err == nil && (g.KeyID != c.id || g.Name != "shop" || !g.May("orders.eu")) {
			t.Errorf("%q: got %+v", c.secret, g)
		}
		if c.err != nil && g.Principal != nil {
			t.Errorf("%q: a principal beside the error", c.secret)
		}
	}
	r.Delete(one.ID)
	if _, err := r.Authenticate("first-secret-of-shop", noon); err != auth.ErrUnknownKey {
		t.Errorf("revoked: got %v", err)
	}
	if _, err := r.Authenticate("second-secret-of-shop", noon); err != nil {
		t.Errorf("the other key: got %v", err)
	}
}

// The texts go to strangers: they must not tell one wrong key from another.
func TestErrorTextsAreConstant(t *testing.T) {
	var r auth.Ring
	k := newKey(t, "first-secret-of-shop", "shop")
	if err := r.Put(k); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"x", "first-secret-of-shoq", k.Digest, strings.Repeat("y", 10000), "\x00"} {
		if _, err := r.Authenticate(secret, noon); err == nil || err.Error() != "the API key is not valid" {
			t.Errorf("%.20q: got %v", secret, err)
		}
	}
	if _, err := r.Authenticate("", noon); err == nil || err.Error() != "no API key was given" {
		t.Errorf("got %v", err)
	}
	k.Expires = noon
	if err := r.Put(k); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate("first-secret-of-shop", noon); err == nil || err.Error() != "the API key has expired" {
		t.Errorf("got %v", err)
	}
}

func TestExpiry(t *testing.T) {
	var r auth.Ring
	k := newKey(t, "first-secret-of-shop", "shop")
	k.Expires = noon
	if err := r.Put(k); err != nil {
		t.Fatal(err)
	}
	g, err := r.Authenticate("first-secret-of-shop", noon.Add(-time.Nanosecond))
	if err != nil || !g.Expires.Equal(noon) {
		t.Errorf("before: got %v, %v", g, err)
	}
	for _, after := range []time.Duration{0, time.Hour} {
		if _, err := r.Authenticate("first-secret-of-shop", noon.Add(after)); !errors.Is(err, auth.ErrExpired) {
			t.Errorf("%s after: got %v", after, err)
		}
	}
}

func TestDamagedKeysAreRefused(t *testing.T) {
	good := newKey(t, "first-secret-of-shop", "shop")
	for name, damage := range map[string]func(*auth.Key){
		"empty":                     func(k *auth.Key) { *k = auth.Key{} },
		"short digest":              func(k *auth.Key) { k.Digest = k.Digest[:62] },
		"digest is no hex":          func(k *auth.Key) { k.Digest = k.Digest[:63] + "x" },
		"another ID":                func(k *auth.Key) { k.ID = "00000000" },
		"short ID":                  func(k *auth.Key) { k.ID = k.ID[:4] },
		"name that breaks JSON":     func(k *auth.Key) { k.Name = `x","channel":"admin` },
		"no name":                   func(k *auth.Key) { k.Name = "" },
		"pattern that is none":      func(k *auth.Key) { k.Channels = []string{"ok", "a.>.b"} },
		"negative rate":             func(k *auth.Key) { k.Rate = -1 },
		"rate that is not a number": func(k *auth.Key) { k.Rate = math.NaN() },
	} {
		var r auth.Ring
		k := good
		damage(&k)
		if err := r.Put(k); err == nil || r.Len() != 0 {
			t.Errorf("%s: got %v and %d keys", name, err, r.Len())
		}
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

func TestRate(t *testing.T) {
	grant := func(r *auth.Ring, now time.Time) auth.Grant {
		t.Helper()
		g, err := r.Authenticate("first-secret-of-shop", now)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	var r auth.Ring
	k := newKey(t, "first-secret-of-shop", "shop")
	k.Rate = 10
	if err := r.Put(k); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		n    int
		at   time.Duration
		wait time.Duration
	}{
		{10, 0, 0}, // the burst
		{1, 0, 100 * time.Millisecond},
		{5, 0, 500 * time.Millisecond},
		{0, 0, 0},
		{-3, 0, 0}, // must not refill
		{1, 0, 100 * time.Millisecond},
		{1, 100 * time.Millisecond, 0}, // refused ones have spent nothing
		{1, 100 * time.Millisecond, 100 * time.Millisecond},
		// More than the burst never pass; the wait is until the bucket is full.
		{11, 600 * time.Millisecond, 500 * time.Millisecond},
		{11, 10 * time.Second, -1},
		{10, 1100 * time.Millisecond, 0},
	} {
		now := noon.Add(step.at)
		wait, ok := grant(&r, now).Charge(step.n, now)
		if step.wait == -1 {
			if ok {
				t.Errorf("%d at %s passes", step.n, step.at)
			}
			continue
		}
		if ok != (step.wait == 0) || (wait-step.wait).Abs() > time.Millisecond {
			t.Errorf("%d at %s: got %s, %v, want %s", step.n, step.at, wait, ok, step.wait)
		}
	}
	now := noon.Add(1100 * time.Millisecond)
	k.Channels = []string{"orders.>"}
	if err := r.Put(k); err != nil { // something else changed
		t.Fatal(err)
	}
	if _, ok := grant(&r, now).Charge(1, now); ok {
		t.Error("an update of the channels refilled the bucket")
	}
	k.Rate = 20
	if err := r.Put(k); err != nil {
		t.Fatal(err)
	}
	if _, ok := grant(&r, now).Charge(20, now); !ok {
		t.Error("a new rate does not count")
	}
	for _, rate := range []float64{0, 0.1, 1e300} {
		k.Rate = rate
		if err := r.Put(k); err != nil {
			t.Fatal(err)
		}
		if _, ok := grant(&r, now).Charge(1, now); !ok {
			t.Errorf("rate %v: not even one message passes", rate)
		}
	}
	if _, ok := (auth.Grant{}).Charge(1000, now); !ok {
		t.Error("a grant without a limit is limited")
	}
}

func TestRingIsSafeForConcurrentUse(t *testing.T) {
	var r auth.Ring
	k := newKey(t, "first-secret-of-shop", "shop")
	k.Rate = 1e6
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				if err := r.Put(k); err != nil {
					t.Error(err)
				}
				if g, err := r.Authenticate("first-secret-of-shop", noon); err == nil {
					g.Charge(1, noon)
					g.May("a")
				}
				r.Len()
				r.Delete(k.ID)
			}
		})
	}
	wg.Wait()
}
