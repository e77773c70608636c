package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/retry"
)

// tokenSecretFile has the secret of tokens that Herald made for itself.
func tokenSecretFile(data string) string { return filepath.Join(data, "jwt.secret") }

// secretEvery is how often a secret is tried to be written down.
const secretEvery = time.Second

// ownTokenSecret gives a Herald without token keys a secret of its own, so that
// tokens work from the first start: herald token and the operator's backend
// read it from the data folder, where only its owner may. It is made once.
// Where it cannot be written (a full disk), Herald starts all the same, and keep,
// which is nil otherwise, writes it when it can be; keep returns when ctx ends.
func (c *Config) ownTokenSecret(log *slog.Logger) (keep func(ctx context.Context) error, err error) {
	if c.Gateway.JWTSecret != "" || c.Gateway.JWKS != "" {
		return nil, nil
	}
	path := tokenSecretFile(c.Data)
	secret, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("secret of tokens: %w", err)
	}
	c.Gateway.JWTSecretFile = path
	if len(bytes.TrimSpace(secret)) == 0 { // not made yet, or a crash came between
		secret = append(hex.AppendEncode(nil, []byte(rand.Text())), '\n')
		write := func(context.Context) error {
			err := os.WriteFile(path, secret, 0o600)
			if err != nil {
				_ = os.Remove(path) // half a secret would be refused at the next start
			}
			return err
		}
		if err := write(context.Background()); err != nil {
			c.Gateway.JWTSecretFile = "" // nothing to read again
			log.Warn("the secret of tokens cannot be written down yet; trying again, and nobody can sign one before",
				"err", err)
			keep = func(ctx context.Context) error {
				if (retry.Policy{Pause: secretEvery}).Until(ctx, write) == nil {
					log.Info("the secret of tokens is written down", "file", path)
				}
				<-ctx.Done()
				return nil
			}
		}
	}
	c.Gateway.JWTSecret = strings.TrimSpace(string(secret))
	return keep, c.Gateway.Validate()
}
