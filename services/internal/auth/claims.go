package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims are the members of a token's body by their exact names: encoding/json
// would accept "SUB" as sub. Each is decoded only when it is asked for, so that
// a claim which Herald does not use may be anything.
type claims map[string]json.RawMessage

// errNotJudged keeps the library from reading claims by its own rules.
var errNotJudged = errors.New("claims are judged by Verifier.judge")

func (claims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, errNotJudged }
func (claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, errNotJudged }
func (claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, errNotJudged }
func (claims) GetIssuer() (string, error)                   { return "", errNotJudged }
func (claims) GetSubject() (string, error)                  { return "", errNotJudged }
func (claims) GetAudience() (jwt.ClaimStrings, error)       { return nil, errNotJudged }

// get is the claim as it was written; nil if it is missing or null.
func (c claims) get(name string) json.RawMessage {
	if v := c[name]; string(v) != "null" {
		return v
	}
	return nil
}

func wrongType(name string, v json.RawMessage, want string) error {
	is := "a number"
	switch v[0] {
	case '"':
		is = "a text"
	case '{':
		is = "an object"
	case '[':
		is = "an array"
	case 't', 'f':
		is = "true or false"
	}
	if v[0] == '[' && want == textArray {
		is = "an array of something else"
	}
	return fmt.Errorf("%w: the claim %s is %s; want %s", ErrToken, name, is, want)
}

const textArray = "an array of texts"

// text is a claim that is a JSON string; empty if it is missing.
func (c claims) text(name string) (s string, err error) {
	v := c.get(name)
	if v == nil {
		return "", nil
	}
	if json.Unmarshal(v, &s) != nil {
		return "", wrongType(name, v, "a text")
	}
	return s, nil
}

// texts is a claim that is an array of JSON strings; nil if it is missing.
func (c claims) texts(name string) (all []string, err error) {
	v := c.get(name)
	if v == nil {
		return nil, nil
	}
	var some []*string // nil where an element is null, which []string would decode as empty
	if json.Unmarshal(v, &some) != nil || slices.Contains(some, nil) {
		return nil, wrongType(name, v, textArray)
	}
	all = make([]string, len(some))
	for i, s := range some {
		all[i] = *s
	}
	return all, nil
}

// latest is the last second of the year 9999, the last one that RFC 3339 can
// write. A later time means the same: never.
const latest = 253402300799

// date is a claim in seconds since 1970 (RFC 7519 section 2, NumericDate), any
// number; the zero Time if it is missing.
func (c claims) date(name string) (time.Time, error) {
	v := c.get(name)
	if v == nil {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseFloat(string(v), 64) // too large a number is infinite
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return time.Time{}, wrongType(name, v, "a number of seconds since 1970")
	}
	whole, fraction := math.Modf(min(max(seconds, 0), latest))
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}

// names checks that a claim, a text or an array of texts, names one of allowed;
// without any the claim is not judged.
func (c claims) names(claim string, allowed []string) error {
	if len(allowed) == 0 {
		return nil
	}
	v := c.get(claim)
	if v == nil {
		return fmt.Errorf("%w: the claim %s is missing", ErrToken, claim)
	}
	var named []string
	var err error
	if v[0] == '"' {
		named = make([]string, 1)
		named[0], err = c.text(claim)
	} else {
		named, err = c.texts(claim)
	}
	if err != nil {
		return wrongType(claim, v, "a text or an array of texts")
	}
	if !slices.ContainsFunc(named, func(s string) bool { return slices.Contains(allowed, s) }) {
		return fmt.Errorf("%w: its claim %s is not one that is accepted here", ErrToken, claim)
	}
	return nil
}
