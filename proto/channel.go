package proto

import (
	"errors"
	"fmt"
	"strings"
)

// MaxChannelBytes bounds a channel name or pattern. 255 keeps
// "herald.live." plus the name far below what NATS accepts as a subject.
const MaxChannelBytes = 255

// Broadcast is the channel of POST /notify, and of a client that names none.
const Broadcast = "broadcast"

// ErrChannel is wrapped by every error of CheckChannel and CheckPattern.
var ErrChannel = errors.New("invalid channel")

// CheckChannel reports whether name may be published to: 1–255 bytes, tokens
// of printable ASCII separated by single dots, without space, quotes (" ' `),
// backslash and the wildcards * and >. These rules make a channel a literal
// NATS subject suffix and let it stand in JSON without escaping.
func CheckChannel(name string) error { return checkTokens(name, false) }

// CheckPattern is CheckChannel for what clients may subscribe to: a token may
// also be "*" (any one token), and the last one ">" (one or more tokens).
func CheckPattern(pattern string) error { return checkTokens(pattern, true) }

func checkTokens(s string, wildcards bool) error {
	if s == "" {
		return fmt.Errorf("%w: it is empty", ErrChannel)
	}
	if len(s) > MaxChannelBytes {
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrChannel, len(s), MaxChannelBytes)
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if i == start {
				return fmt.Errorf("%w: %q has an empty token", ErrChannel, s)
			}
			start = i + 1
			continue
		}
		switch b := s[i]; {
		case b <= ' ' || b > '~':
			return fmt.Errorf("%w: byte %#02x at position %d; only printable ASCII without spaces is allowed",
				ErrChannel, b, i)
		case b == '"' || b == '\'' || b == '`' || b == '\\':
			return fmt.Errorf("%w: %q has a quote or backslash", ErrChannel, s)
		case b == '*' || b == '>':
			if !wildcards {
				return fmt.Errorf("%w: %q has a wildcard; messages are published to one literal channel", ErrChannel, s)
			}
			whole := i == start && (i+1 == len(s) || s[i+1] == '.')
			if !whole || b == '>' && i+1 != len(s) {
				return fmt.Errorf("%w: in %q a wildcard must be a whole token, and > the last one", ErrChannel, s)
			}
		}
	}
	return nil
}

// IsPattern reports whether a valid name has wildcards.
func IsPattern(name string) bool { return strings.ContainsAny(name, "*>") }

// Match reports whether pattern, by the rules of NATS, matches channel.
// Both must be valid; channel may itself be a pattern, and is then covered
// only if every channel that it matches is covered too: Match("a.>", "a.*") is
// true, Match("a.*", "a.>") is not. That is the rule for permissions.
func Match(pattern, channel string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		c, crest, cmore := strings.Cut(channel, ".")
		switch {
		case p == ">":
			return true
		case c == ">":
			return false
		case p != "*" && p != c:
			return false
		case !pmore || !cmore:
			return pmore == cmore
		}
		pattern, channel = prest, crest
	}
}

// MatchAny reports whether one of the patterns matches channel.
func MatchAny(patterns []string, channel string) bool {
	for _, p := range patterns {
		if Match(p, channel) {
			return true
		}
	}
	return false
}
