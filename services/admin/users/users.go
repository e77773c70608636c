// Package users keeps the users of the console in a JetStream KV bucket, where
// every admin process and the command line see a user made, changed or removed
// within seconds.
//
// The bucket herald_users holds "user.<name>" with a User as JSON, and
// "login.<name>" with the time of the last login: two entries, so that a login
// never overwrites a change. Names in keys are base64. Of passwords only
// argon2id digests are kept.
package users

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/herald-push/herald/services/admin/internal/kvcache"
	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is the KV bucket's name.
const Bucket = "herald_users"

// How a user proves who it is.
const (
	ByPassword = "password"
	ByOIDC     = "oidc"
)

// maxNameBytes bounds a user's name.
const maxNameBytes = 64

// Errors that people meet in the console and at the command line.
var (
	ErrNotFound  = errors.New("no such user")
	ErrExists    = errors.New("there is a user with that name already")
	ErrLastAdmin = errors.New("that is the last user with the role admin who has a password; make another one first")
	ErrNoBucket  = errors.New("there are no users yet: the console makes their bucket when it first starts")
	ErrOIDC      = errors.New("that user comes from OpenID Connect: password and role are its provider's to change")
	ErrInvalid   = errors.New("not valid") // is wrapped by what a person gave and may not be
	ErrChanged   = errors.New("somebody else changed that user in this moment; look again")
)

// Refused reports whether an error says that nothing was changed, because of what was
// asked for.
func Refused(err error) bool {
	for _, refusal := range []error{ErrNotFound, ErrExists, ErrLastAdmin, ErrOIDC, ErrInvalid, ErrChanged} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// User is what is kept of a user.
//
//	{"name":"anna","role":"operator","via":"password","digest":"$argon2id$…","epoch":"…",
//	 "created":"2026-11-28T16:58:36Z"}
type User struct {
	Name   string `json:"name"`
	Role   Role   `json:"role"`
	Via    string `json:"via"`              // ByPassword or ByOIDC
	Digest string `json:"digest,omitempty"` // of the password
	// Subject is who the provider says it is: issuer and subject, which unlike a
	// name nobody else ever gets.
	Subject string `json:"subject,omitempty"`
	// Epoch changes with the password: sessions of another epoch have ended.
	Epoch   string    `json:"epoch"`
	Created time.Time `json:"created"`
}

// Info is a user as lists show it.
type Info struct {
	Name      string    `json:"name"`
	Role      Role      `json:"role"`
	Via       string    `json:"via"`
	Created   time.Time `json:"created"`
	LastLogin time.Time `json:"last_login,omitzero"`
	// Damaged says that the entry cannot be read: nobody can log in with it, and it can be removed.
	Damaged bool `json:"damaged,omitempty"`
}

// Store reads and writes the bucket. Safe for concurrent use.
type Store struct {
	kv     jetstream.KeyValue
	cache  *kvcache.Cache
	hasher *hasher
}

// Open finds the bucket. The error is ErrNoBucket before an admin process has
// made it.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	kv, err := js.KeyValue(ctx, Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		err = ErrNoBucket
	}
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", Bucket, err)
	}
	return New(kv, js.Conn().IsConnected), nil
}

// New is a store over a bucket that somebody opened. connected reports whether
// there is a connection to NATS.
func New(kv jetstream.KeyValue, connected func() bool) *Store {
	return &Store{kv: kv, cache: kvcache.New(kv, connected), hasher: newHasher()}
}

// OnFailure has f called, which must not block, after each reading that NATS did not answer. It is called before
// the store is used.
func (s *Store) OnFailure(f func()) { s.cache.OnFailure(f) }

// Check reports whether a user may be made with this name and role.
func Check(name string, role Role) error {
	if err := CheckName(name); err != nil {
		return err
	}
	_, err := ParseRole(string(role))
	return err
}

// CheckName reports whether a user may have this name: it stands in URLs, in
// the audit and as a sender.
func CheckName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return invalid("user name: it has %d bytes; want 1 to %d", len(name), maxNameBytes)
	}
	if name == "." || name == ".." { // in a URL browsers resolve them as steps of the path
		return invalid("user name %q: want more than dots", name)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c > '~' || strings.IndexByte("/\\\"'`<>?#%&", c) >= 0 {
			return invalid("user name %q: letters, digits and other printable ASCII are allowed, but no space "+
				"and none of / \\ \" ' ` < > ? # %% &", name)
		}
	}
	return nil
}

// invalidError is a sentence about what a person gave; it is ErrInvalid.
type invalidError string

func (e invalidError) Error() string { return string(e) }
func (invalidError) Unwrap() error   { return ErrInvalid }

func invalid(format string, args ...any) error { return invalidError(fmt.Sprintf(format, args...)) }

// keyOf is the entry's name; that of a user has no case.
func keyOf(kind, name string) string {
	return kind + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.ToLower(name)))
}

func newEpoch() string { return rand.Text() }

// parse reads an entry of the name.
func parse(key string, value []byte) (u User, err error) {
	if err = json.Unmarshal(value, &u); err == nil {
		err = CheckName(u.Name)
	}
	switch {
	case err != nil:
	case keyOf("user", u.Name) != key:
		err = errors.New("it holds another user")
	case u.Via != ByPassword && u.Via != ByOIDC || u.Epoch == "" || u.Via == ByOIDC && u.Subject == "":
		err = errors.New("it is not whole")
	default:
		_, err = ParseRole(string(u.Role))
	}
	if err != nil {
		return User{}, fmt.Errorf("entry %s of %s is damaged: %w", key, Bucket, err)
	}
	return u, nil
}

// Get finds a user. The error is ErrNotFound where there is none, and also
// where the entry is damaged.
func (s *Store) Get(ctx context.Context, name string) (User, error) {
	u, _, err := s.get(ctx, name)
	return u, err
}

func (s *Store) get(ctx context.Context, name string) (u User, revision uint64, err error) {
	key := keyOf("user", name)
	value, revision, found, err := s.cache.Get(ctx, key)
	if err != nil {
		return u, 0, fmt.Errorf("read the user %q: %w", name, err)
	}
	if found {
		u, err = parse(key, value)
	}
	if !found || err != nil {
		return User{}, revision, fmt.Errorf("user %q: %w", name, ErrNotFound)
	}
	return u, revision, nil
}

// Verify finds the user with this password. It takes as long and as much memory
// for a user that does not exist. Errors are ErrPassword, ErrBusy, and those of
// NATS.
func (s *Store) Verify(ctx context.Context, name, password string) (User, error) {
	u, err := s.Get(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	digest := ""
	if err == nil && u.Via == ByPassword {
		digest = u.Digest
	}
	if err := s.hasher.check(ctx, password, digest); err != nil {
		return User{}, err
	}
	return u, nil
}

// First makes the very first user, admin, once for all processes that start
// together: only one of them gets a password to print, the others an empty one.
func (s *Store) First(ctx context.Context, now time.Time) (name, password string, err error) {
	const first = "admin"
	list, err := s.List(ctx)
	if err != nil || len(list) > 0 {
		return "", "", err
	}
	// A process that made the user and could not print its password has said so.
	password, err = s.Add(ctx, first, Admin, now)
	if errors.Is(err, ErrExists) {
		return "", "", nil
	}
	return first, password, err
}

// Add makes a user, and returns its password, which is kept nowhere.
func (s *Store) Add(ctx context.Context, name string, role Role, now time.Time) (password string, err error) {
	if err := Check(name, role); err != nil {
		return "", err
	}
	password = NewPassword()
	u := User{Name: name, Role: role, Via: ByPassword, Epoch: newEpoch(), Created: now.UTC().Truncate(time.Second)}
	if u.Digest, err = s.hasher.make(ctx, password); err != nil {
		return "", err
	}
	if err := s.create(ctx, u); err != nil {
		return "", err
	}
	return password, nil
}

func (s *Store) create(ctx context.Context, u User) error {
	b, err := json.Marshal(u)
	if err == nil {
		err = bucket.Create(ctx, s.kv, keyOf("user", u.Name), b)
		s.cache.Forget(keyOf("user", u.Name)) // it does not know what was stored
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("user %q: %w", u.Name, ErrExists)
	case err != nil:
		return fmt.Errorf("store the user %q: %w", u.Name, err)
	}
	return nil
}

// Seen is called when somebody has logged in with OpenID Connect: it makes the
// user, or gives it the role that the provider says. A name that somebody else
// has is ErrExists.
func (s *Store) Seen(ctx context.Context, name, subject string, role Role, now time.Time) (User, error) {
	u := User{Name: name, Role: role, Via: ByOIDC, Subject: subject, Epoch: newEpoch(),
		Created: now.UTC().Truncate(time.Second)}
	err := CheckName(name)
	if err == nil {
		err = s.create(ctx, u)
	}
	if !errors.Is(err, ErrExists) {
		return u, err
	}
	_, err = s.change(ctx, name, func(known *User) error {
		if known.Via != ByOIDC || known.Subject != subject {
			return fmt.Errorf("user %q: %w, and it is not this one of the provider", name, ErrExists)
		}
		known.Role = role
		u = *known
		return nil
	})
	return u, err
}

// LoggedIn notes the time of a login.
func (s *Store) LoggedIn(ctx context.Context, name string, now time.Time) error {
	_, err := s.kv.Put(ctx, keyOf("login", name), []byte(now.UTC().Format(time.RFC3339)))
	return err
}

// List returns all users, by name.
func (s *Store) List(ctx context.Context) ([]Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what nats.go starts for a watcher
	w, err := s.kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	defer func() { _ = w.Stop() }() // fails only when the connection is closed
	byKey, logins := map[string]Info{}, map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("list users: %w", ctx.Err())
		case e, open := <-w.Updates():
			switch {
			case !open:
				return nil, errors.New("list users: NATS broke off the answer")
			case e == nil: // the end of what is stored
				return sorted(byKey, logins), nil
			case e.Operation() != jetstream.KeyValuePut:
			case strings.HasPrefix(e.Key(), "login."):
				if t, err := time.Parse(time.RFC3339, string(e.Value())); err == nil {
					logins[strings.TrimPrefix(e.Key(), "login.")] = t
				}
			case strings.HasPrefix(e.Key(), "user."):
				byKey[strings.TrimPrefix(e.Key(), "user.")] = infoOf(e)
			}
		}
	}
}

func infoOf(e jetstream.KeyValueEntry) Info {
	u, err := parse(e.Key(), e.Value())
	if err == nil {
		return Info{Name: u.Name, Role: u.Role, Via: u.Via, Created: u.Created}
	}
	name, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(e.Key(), "user."))
	if err != nil {
		name = []byte(e.Key())
	}
	return Info{Name: string(name), Damaged: true}
}

func sorted(byKey map[string]Info, logins map[string]time.Time) []Info {
	out := make([]Info, 0, len(byKey))
	for key, u := range byKey {
		u.LastLogin = logins[key]
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}
