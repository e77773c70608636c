package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// tokenSecretFile has the secret of tokens that Herald made for itself.
func tokenSecretFile(data string) string { return filepath.Join(data, "jwt.secret") }

// ownTokenSecret gives a Herald without token keys a secret of its own, so that
// tokens work from the first start: herald token and the operator's backend
// read it from the data folder, where only its owner may. It is made once.
// Where it cannot be (a full disk), Herald starts without.
func (c *Config) ownTokenSecret(log *slog.Logger) error {
	if c.Gateway.JWTSecret != "" || c.Gateway.JWKS != "" {
		return nil
	}
	path := tokenSecretFile(c.Data)
	secret, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("secret of tokens: %w", err)
	}
	if len(bytes.TrimSpace(secret)) == 0 { // not made yet, or a crash came between
		secret = append(hex.AppendEncode(nil, []byte(rand.Text())), '\n')
		if err := os.WriteFile(path, secret, 0o600); err != nil {
			_ = os.Remove(path) // half a secret would be refused at the next start
			log.Warn("no secret of tokens can be made; clients may follow only what needs no token", "err", err)
			return nil
		}
	}
	c.Gateway.JWTSecret, c.Gateway.JWTSecretFile = strings.TrimSpace(string(secret)), path
	return c.Gateway.Validate()
}
