// Package auth turns a key or a token into a principal and says what that
// principal may do.
//
// API keys are random strings for backends: only their SHA-256 digests are
// kept, in a Ring. Tokens are JWTs for clients, checked by a Verifier. A
// Principal is a plain value that nobody changes.
package auth

import (
	"errors"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
)

// Principal is who calls, and which channels that gives them.
type Principal struct {
	// Name is the API key's name or the token's subject; empty for an
	// anonymous client.
	Name string
	// Channels are the patterns that the principal may publish to, and read
	// history and log of (a key), or follow (a token, an anonymous client).
	Channels []string
	// Scopes are what a key may do there. Nobody else has any.
	Scopes []Scope
	// Expires is when that ends; zero means never.
	Expires time.Time
}

// May reports whether the principal's patterns cover the channel or pattern.
func (p *Principal) May(channel string) bool { return proto.MatchAny(p.Channels, channel) }

// Can reports whether the principal is a key that may do that, on the channels
// that it covers.
func (p *Principal) Can(s Scope) bool { return slices.Contains(p.Scopes, s) }

// Everything reports whether the principal is a key for everything: it may do all
// that there is, on all channels.
func (p *Principal) Everything() bool {
	for _, s := range Scopes {
		if !p.Can(s) {
			return false
		}
	}
	return p.May(">")
}

// Errors of Ring.Authenticate and Verifier.Verify. They say no more than a
// stranger may know.
var (
	// ErrNoKey: there was nothing to check.
	ErrNoKey = errors.New("no API key was given")
	// ErrUnknownKey: no key has this digest, or it was revoked.
	ErrUnknownKey = errors.New("the API key is not valid")
	// ErrExpired: key or token are past their expiry.
	ErrExpired = errors.New("expired")
	// ErrEarly: the token begins in the future. That passes by itself.
	ErrEarly = errors.New("the token is not valid yet")
	// ErrKeys: the keys that could check the token are out of reach. That passes
	// by itself, too.
	ErrKeys = errors.New("the keys for tokens cannot be fetched now; come back")
	// ErrToken: the token is malformed or forged, lacks a claim or has a wrong one.
	ErrToken = errors.New("the token is not valid")
)
