package auth

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/golang-jwt/jwt/v5"
)

// MinTokenSecretBytes is the shortest HS256 secret that is accepted: RFC 7518
// section 3.2 asks for as many bytes as the hash has. A shorter one can be
// guessed offline by whoever has one token.
const MinTokenSecretBytes = 32

// maxTokenSecrets are valid at once: the one that backends come from and the
// one that they go to.
const maxTokenSecrets = 2

// TokenSecrets splits a setting into the HS256 secrets in it, and checks each.
// The error never contains one.
func TokenSecrets(what, s string) ([]string, error) {
	all := strings.Fields(strings.TrimPrefix(s, "\ufeff"))
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%s is empty", what)
	case len(all) > maxTokenSecrets:
		return nil, fmt.Errorf("%s has %d secrets with white space between them; at most %d may be valid at once", what,
			len(all), maxTokenSecrets)
	}
	for i, secret := range all {
		which := what
		if len(all) > 1 {
			which = fmt.Sprintf("%s: secret %d", what, i+1)
		}
		if err := checkSecret(which, secret, MinTokenSecretBytes); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// secrets are the HS256 secrets that are valid now.
type secrets struct {
	keys atomic.Pointer[jwt.VerificationKeySet]
	file *watched // nil: they do not come from a file
}

func newSecrets(s, path string, log *slog.Logger) (*secrets, error) {
	h := &secrets{}
	if path == "" {
		return h, h.load([]byte(s))
	}
	h.file = &watched{path: path, what: "token secrets", log: log, load: h.load}
	return h, h.file.first()
}

func (h *secrets) load(b []byte) error {
	all, err := TokenSecrets("HERALD_JWT_SECRET", string(b))
	if err != nil {
		return err
	}
	set := &jwt.VerificationKeySet{}
	for _, secret := range all {
		set.Keys = append(set.Keys, []byte(secret))
	}
	h.keys.Store(set)
	return nil
}

func (h *secrets) keyfunc(*jwt.Token) (any, error) {
	if h.file != nil {
		h.file.look()
	}
	return *h.keys.Load(), nil
}
