package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// refreshEvery is how often a JWKS URL is fetched again: a key that was
	// revoked there is accepted here for as long.
	refreshEvery = 10 * time.Minute
	// refreshAtMost is how often tokens that name an unknown key may cause a fetch.
	refreshAtMost = time.Minute
	// fetchTimeout bounds one fetch. A client whose token names an unknown key
	// waits for it, and so does the start.
	fetchTimeout = 5 * time.Second
	// firstRetry is the wait after a failed fetch while no key is known; it
	// doubles up to refreshAtMost.
	firstRetry = time.Second
	// maxKeySetBytes bounds a JWKS; large ones have some 20 keys of 2 KB.
	maxKeySetBytes = 1 << 20
)

// keySet is the public keys of a JWKS file or URL.
type keySet struct {
	// Fixed after newKeySet.
	url    string   // empty: a file
	file   *watched // nil: a URL
	client *http.Client
	log    *slog.Logger
	wanted chan struct{} // of capacity 1; never closed: a token named an unknown key

	mu      sync.Mutex
	keys    []publicKey   // guarded by mu; the slice is replaced, never changed
	missing error         // guarded by mu; why no key was ever read; nil once one was
	failed  bool          // guarded by mu; the last fetch failed
	asked   time.Time     // guarded by mu; when a token last caused a fetch
	done    chan struct{} // guarded by mu; closed when the fetch that a token caused has ended; nil: none is due
}

// publicKey is one key: *rsa.PublicKey, *ecdsa.PublicKey (P-256) or
// ed25519.PublicKey.
type publicKey struct {
	id, alg string // may be empty
	key     any
}

func newKeySet(ctx context.Context, from string, log *slog.Logger) (*keySet, error) {
	k := &keySet{log: log, wanted: make(chan struct{}, 1)}
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		k.file = &watched{path: strings.TrimPrefix(from, "file://"), what: "JWKS file", log: log, load: k.load}
		return k, k.file.first()
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("%s is plain http: whoever is on the way could hand out keys of their own; use https",
			u.Redacted())
	}
	k.url = from
	k.client = &http.Client{Timeout: fetchTimeout, Transport: http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != u.Scheme || r.URL.Host != u.Host {
				return fmt.Errorf("it redirects to another origin (%s://%s); name the URL of the keys themselves",
					r.URL.Scheme, r.URL.Host)
			}
			if len(via) > 5 {
				return errors.New("it redirects more than five times")
			}
			return nil
		}}
	k.missing = errors.New("not fetched yet")
	k.fetch(ctx)
	return k, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// run fetches a URL again and again until ctx ends.
func (k *keySet) run(ctx context.Context) {
	if k.file != nil {
		return
	}
	defer k.client.CloseIdleConnections()
	retry := firstRetry
	for {
		wait := refreshEvery
		if k.ready() != nil {
			wait = retry
			retry = min(2*retry, refreshAtMost)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-k.wanted:
			timer.Stop()
		}
		k.fetch(ctx)
	}
}

// ready is nil once a key was read.
func (k *keySet) ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.missing == nil {
		return nil
	}
	return fmt.Errorf("tokens cannot be checked: the keys of HERALD_JWKS: %w", k.missing)
}

// fetch reads the URL once. The keys known so far stay unless it has others.
func (k *keySet) fetch(ctx context.Context) {
	k.mu.Lock()
	waiting := k.done // nil: who asks from now on may need what this fetch is too early for
	k.mu.Unlock()
	first := k.ready() != nil
	b, err := k.get(ctx)
	if err == nil {
		err = k.load(b)
	}
	switch {
	case err == nil || ctx.Err() != nil:
	case first:
		k.log.Warn("JWKS could not be fetched; tokens are refused until it is, and clients told to come back", "err",
			err)
	default:
		k.log.Warn("JWKS could not be refreshed; the keys known so far stay", "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = err != nil
	if err != nil && first {
		k.missing = err
	}
	if waiting != nil {
		close(waiting)
		k.done = nil
	}
}

func (k *keySet) get(ctx context.Context) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := k.client.Do(r)
	if err != nil {
		return nil, err // names the URL, without its password
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", r.URL.Redacted(), resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r.URL.Redacted(), err)
	case len(b) > maxKeySetBytes:
		return nil, fmt.Errorf("%s has more than %d bytes", r.URL.Redacted(), maxKeySetBytes)
	}
	return b, nil
}

// load replaces the keys by those of a set. One without a single key that could be
// used changes nothing: it is more likely a fault there than the wish to refuse
// every token.
func (k *keySet) load(b []byte) error {
	keys, left, err := parseKeySet(b)
	if err != nil {
		return err
	}
	for _, fault := range left {
		k.log.Warn("a key of the JWKS is left out", "err", fault)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.missing = keys, nil
	return nil
}

// parseKeySet reads a JWKS. left says what is wrong with those keys that were
// left out; err: there is none that could be used.
func parseKeySet(b []byte) (keys []publicKey, left []error, err error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\ufeff")), &set); err != nil {
		return nil, nil, fmt.Errorf("the key set is not valid JSON: %w", err)
	}
	for i, raw := range set.Keys {
		var head struct{ KTY, KID, USE string }
		if err := json.Unmarshal(raw, &head); err != nil {
			left = append(left, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		switch {
		case head.USE == "enc": // not meant for signatures
			continue
		case head.KTY == "oct":
			left = append(left, fmt.Errorf("key %q is a shared secret; a JWKS holds public keys", head.KID))
			continue
		}
		jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			left = append(left, fmt.Errorf("key %q: %w", head.KID, err))
			continue
		}
		if !usable(jwk.Key()) {
			left = append(left, fmt.Errorf("key %q is none for RS256, ES256 or EdDSA", head.KID))
			continue
		}
		keys = append(keys, publicKey{id: head.KID, alg: jwk.Marshal().ALG.String(), key: jwk.Key()})
	}
	if len(keys) == 0 {
		return nil, nil, errors.Join(append([]error{errors.New("the key set has no keys that could be used")},
			left...)...)
	}
	return keys, left, nil
}

func usable(key any) bool {
	switch key := key.(type) {
	case *rsa.PublicKey, ed25519.PublicKey:
		return true
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256()
	}
	return false
}

// keyfunc finds the keys that may have signed a token. A name that is not known
// has the URL fetched, once a minute at most, and waits for that.
func (k *keySet) keyfunc(t *jwt.Token) (any, error) {
	if k.file != nil {
		k.file.look()
	}
	found, done := k.find(t)
	if done != nil {
		timer := time.NewTimer(fetchTimeout)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
		found, _ = k.find(t)
	}
	if len(found) > 0 {
		return jwt.VerificationKeySet{Keys: found}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed || k.missing != nil {
		return nil, ErrKeys // the key may be one that could not be fetched
	}
	return nil, errors.New("no such key")
}

// find is the keys that fit. done is not nil if there is none, though a fetch
// may bring one: it is closed when that fetch has ended.
func (k *keySet) find(t *jwt.Token) (found []jwt.VerificationKey, done chan struct{}) {
	id, named := t.Header["kid"].(string)
	if _, there := t.Header["kid"]; there && !named {
		return nil, nil // a name that is no text
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.keys {
		if (!named || p.id == id) && (p.alg == "" || p.alg == t.Method.Alg()) && fits(p.key, t.Method) {
			found = append(found, p.key)
		}
	}
	if len(found) > 0 || !named || k.url == "" {
		return found, nil
	}
	if k.done == nil && (k.asked.IsZero() || time.Since(k.asked) >= refreshAtMost) {
		k.done, k.asked = make(chan struct{}), time.Now()
		select {
		case k.wanted <- struct{}{}:
		default: // a fetch is about to begin anyhow
		}
	}
	return nil, k.done
}

func fits(key any, method jwt.SigningMethod) bool {
	switch key.(type) {
	case *rsa.PublicKey:
		return method.Alg() == "RS256"
	case *ecdsa.PublicKey:
		return method.Alg() == "ES256"
	default:
		return method.Alg() == "EdDSA"
	}
}
