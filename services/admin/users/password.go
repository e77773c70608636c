package users

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Argon2id with these costs is the first recommendation of OWASP's Password
// Storage Cheat Sheet: 19 MiB, two passes, one lane. It takes some 20 ms here.
const (
	hashMemory  = 19 << 10 // KiB
	hashTime    = 2
	hashThreads = 1
	hashBytes   = 32
	saltBytes   = 16
)

const (
	// hashesAtOnce bounds the memory of all hashes: 2 × 19 MiB.
	hashesAtOnce = 2
	// hashPatience is how long a login waits for its turn.
	hashPatience = 2 * time.Second
	// hashesWaiting bounds how many logins wait.
	hashesWaiting = 16
)

const (
	minPasswordRunes = 12
	// maxPasswordBytes bounds what is hashed.
	maxPasswordBytes = 256
)

// Errors of passwords.
var (
	// ErrBusy: as many passwords are being checked as may be at once.
	ErrBusy = errors.New("too many passwords are being checked at this moment; try again")
	// ErrPassword: the user or the password is wrong. It does not say which.
	ErrPassword = errors.New("user or password is wrong")
)

// NewPassword makes a random password of 100 bits, in groups that a person can
// type: "k3v7-mq2a-…".
func NewPassword() string {
	text := strings.ToLower(rand.Text()) // 26 letters of base32
	return strings.Join([]string{text[0:4], text[4:8], text[8:12], text[12:16], text[16:20]}, "-")
}

// CheckPassword reports whether a person may choose this password.
func CheckPassword(user, password string) error {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return invalid("password: it is not UTF-8")
	case n < minPasswordRunes:
		return invalid("password: it has %d characters; want at least %d", n, minPasswordRunes)
	case len(password) > maxPasswordBytes:
		return invalid("password: it has %d bytes; want at most %d", len(password), maxPasswordBytes)
	case strings.Contains(strings.ToLower(password), strings.ToLower(user)) && len(user) > 2:
		return invalid("password: it has the user's name in it")
	}
	distinct := map[rune]bool{}
	for _, r := range password {
		distinct[r] = true
	}
	switch lower := strings.ToLower(password); {
	case len(distinct) < 5:
		return invalid("password: it repeats a few characters")
	case repeats(lower):
		return invalid("password: it is the same text again and again")
	case strings.Contains(rows, lower) || strings.Contains(rows, reversed(lower)):
		return invalid("password: it is one row of keys or letters")
	}
	return nil
}

// rows are keys and letters as they stand beside each other, each row long enough for the longest password that people
// make of one.
var rows = func() string {
	var b strings.Builder
	for _, row := range []string{"1234567890", "0123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm",
		"qwertzuiopasdfghjklyxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik"} {
		b.WriteString(strings.Repeat(row, 3) + "\n")
	}
	return b.String()
}()

// repeats reports whether text is a shorter one, again and again.
func repeats(text string) bool {
	return strings.Contains((text + text)[1:2*len(text)-1], text)
}

func reversed(text string) string {
	r := []rune(text)
	slices.Reverse(r)
	return string(r)
}

// hasher bounds how many hashes are computed at once: each takes 19 MiB. Safe
// for concurrent use.
type hasher struct {
	running chan struct{} // has a place for each hash that may run; never closed
	waiting chan struct{} // and for each that may wait or run; never closed
}

func newHasher() *hasher {
	return &hasher{running: make(chan struct{}, hashesAtOnce), waiting: make(chan struct{}, hashesAtOnce+hashesWaiting)}
}

// key computes the hash, when its turn comes. Errors are ErrBusy and ctx's.
func (h *hasher) key(ctx context.Context, password string, salt []byte, d digest) ([]byte, error) {
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		return nil, ErrBusy
	}
	patience := time.NewTimer(hashPatience)
	defer patience.Stop()
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
	case <-patience.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, d.time, d.memory, d.threads, uint32(len(d.key))), nil
}

// digest is a hash with what it was made from.
type digest struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// dummy is what the password of an unknown user is compared with, so that the
// answer takes as long as for a known one.
var dummy = digest{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltBytes),
	key: make([]byte, hashBytes)}

// make hashes a password, as text: $argon2id$v=19$m=19456,t=2,p=1$SALT$KEY.
func (h *hasher) make(ctx context.Context, password string) (string, error) {
	d := dummy
	d.salt = make([]byte, saltBytes)
	_, _ = rand.Read(d.salt) // never fails (crypto/rand since Go 1.24)
	key, err := h.key(ctx, password, d.salt, d)
	if err != nil {
		return "", err
	}
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, d.memory, d.time, d.threads,
		encode(d.salt), encode(key)), nil
}

// check compares a password with a digest, in constant time and work; text
// empty: there is no such user, and the answer is ErrPassword.
func (h *hasher) check(ctx context.Context, password, text string) error {
	d, err := parseDigest(text)
	if err != nil {
		d = dummy
	}
	if len(password) > maxPasswordBytes {
		password = password[:maxPasswordBytes+1] // none that long was ever stored
	}
	key, kerr := h.key(ctx, password, d.salt, d)
	if kerr != nil {
		return kerr
	}
	if equal := subtle.ConstantTimeCompare(key, d.key) == 1; err != nil || !equal {
		return ErrPassword
	}
	return nil
}

// parseDigest reads what make wrote. Costs far beyond ours are refused: whoever
// writes into the bucket must not make a login use gigabytes.
func parseDigest(text string) (d digest, err error) {
	parts := strings.Split(text, "$")
	bad := errors.New("the digest of the password is damaged")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return d, bad
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &d.memory, &d.time, &d.threads); err != nil {
		return d, bad
	}
	salt, serr := base64.RawStdEncoding.DecodeString(parts[4])
	key, kerr := base64.RawStdEncoding.DecodeString(parts[5])
	d.salt, d.key = salt, key
	if serr != nil || kerr != nil || len(salt) < 8 || len(salt) > 64 || len(key) < 16 || len(key) > 64 ||
		d.memory < 8 || d.memory > 4*hashMemory || d.time < 1 || d.time > 10 || d.threads != 1 {
		return digest{}, bad
	}
	return d, nil
}
