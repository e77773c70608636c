package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Scope is one kind of thing that an API key may do, on the channels that it
// covers.
type Scope string

// Every scope.
const (
	Publish Scope = "publish" // send messages
	History Scope = "history" // read what the stream keeps
	Log     Scope = "log"     // read the log: who sent what, when
	Admin   Scope = "admin"   // administer: for now, with all others and all channels, see publishers' addresses
)

// Scopes lists every scope, in the order in which people see them.
var Scopes = []Scope{Publish, History, Log, Admin}

// ParseScopes reads what a person typed.
func ParseScopes(words []string) ([]Scope, error) {
	var out []Scope
	for _, w := range words {
		s := Scope(w)
		switch {
		case !slices.Contains(Scopes, s):
			return nil, fmt.Errorf("may: %q; want some of %s", w, JoinScopes(Scopes))
		case slices.Contains(out, s):
			return nil, fmt.Errorf("may: %s is there twice", w)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("may: a key that may do nothing is none; want some of %s", JoinScopes(Scopes))
	}
	return out, nil
}

// JoinScopes writes scopes as ParseScopes reads them, with commas between.
func JoinScopes(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}
