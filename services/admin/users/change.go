package users

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// change reads a user, changes it and stores it over what was read.
func (s *Store) change(ctx context.Context, name string, by func(*User) error) (before User, err error) {
	s.cache.Forget(keyOf("user", name))
	u, revision, err := s.get(ctx, name)
	if err != nil {
		return u, err
	}
	before = u
	if err := by(&u); err != nil {
		return before, err
	}
	b, err := json.Marshal(u)
	if err == nil {
		err = s.cache.Update(ctx, keyOf("user", name), b, revision)
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return before, fmt.Errorf("user %q: %w", name, ErrChanged)
	case err != nil:
		return before, fmt.Errorf("store the user %q: %w", name, err)
	}
	return before, nil
}

// SetRole gives a user another role, which counts from its next request on. It
// returns the user as it was.
func (s *Store) SetRole(ctx context.Context, name string, role Role) (before User, err error) {
	if _, err := ParseRole(string(role)); err != nil {
		return User{}, err
	}
	if role != Admin {
		if err := s.checkNotLast(ctx, name); err != nil {
			return User{}, err
		}
	}
	return s.change(ctx, name, func(u *User) error {
		if u.Via == ByOIDC {
			return fmt.Errorf("user %q: %w", name, ErrOIDC)
		}
		u.Role = role
		return nil
	})
}

// Reset gives a user a new password, and ends its sessions.
func (s *Store) Reset(ctx context.Context, name string) (password string, err error) {
	password = NewPassword()
	return password, s.setDigest(ctx, name, password)
}

// SetPassword gives a user the password that it chose, and ends its sessions.
// Errors are those of CheckPassword and Verify.
func (s *Store) SetPassword(ctx context.Context, name, old, chosen string) error {
	if err := CheckPassword(name, chosen); err != nil {
		return err
	}
	if _, err := s.Verify(ctx, name, old); err != nil {
		return err
	}
	return s.setDigest(ctx, name, chosen)
}

func (s *Store) setDigest(ctx context.Context, name, password string) error {
	digest, err := s.hasher.make(ctx, password)
	if err != nil {
		return err
	}
	_, err = s.change(ctx, name, func(u *User) error {
		if u.Via == ByOIDC {
			return fmt.Errorf("user %q: %w", name, ErrOIDC)
		}
		u.Digest, u.Epoch = digest, newEpoch()
		return nil
	})
	return err
}

// Remove ends a user and its sessions. A damaged one can be removed, too.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := s.checkNotLast(ctx, name); err != nil {
		return err
	}
	key := keyOf("user", name)
	s.cache.Forget(key)
	if _, _, found, err := s.cache.Get(ctx, key); err != nil || !found {
		if err == nil {
			err = ErrNotFound
		}
		return fmt.Errorf("user %q: %w", name, err)
	}
	if err := s.cache.Delete(ctx, key); err != nil {
		return fmt.Errorf("remove the user %q: %w", name, err)
	}
	_ = s.kv.Delete(ctx, keyOf("login", name)) // nobody reads it without the user
	return nil
}

// checkNotLast refuses to remove the last admin with a password.
func (s *Store) checkNotLast(ctx context.Context, name string) error {
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	others, itself := 0, false
	for _, u := range list {
		switch {
		case u.Role != Admin || u.Via != ByPassword || u.Damaged:
		case strings.EqualFold(u.Name, name):
			itself = true
		default:
			others++
		}
	}
	if itself && others == 0 {
		return fmt.Errorf("user %q: %w", name, ErrLastAdmin)
	}
	return nil
}
