package users

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// However many log in at once, a few hashes run at a time, some wait, and the rest
// is told to come back.
func TestHashesAreBounded(t *testing.T) {
	h := newHasher()
	for range hashesAtOnce { // as if that many ran
		h.waiting <- struct{}{}
		h.running <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range hashesWaiting {
		wg.Go(func() {
			if err := h.check(ctx, "x", ""); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrBusy) {
				t.Errorf("while others run: got %v", err)
			}
		})
	}
	natstest.Eventually(t, 30*time.Second, "all places to be taken",
		func() bool { return len(h.waiting) == cap(h.waiting) })
	if err := h.check(context.Background(), "x", ""); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: got %v", err)
	}
	cancel()
	wg.Wait()
	if len(h.running) != hashesAtOnce || len(h.waiting) != hashesAtOnce {
		t.Errorf("places are left taken: %d, %d", len(h.running), len(h.waiting))
	}
}

func TestDigests(t *testing.T) {
	h := newHasher()
	text, err := h.make(context.Background(), "correct horse")
	if err != nil || !strings.HasPrefix(text, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("got %q, %v", text, err)
	}
	other, err := h.make(context.Background(), "correct horse")
	if err != nil || other == text {
		t.Errorf("the same salt twice: %q, %v", other, err)
	}
	if err := h.check(context.Background(), "correct horse", text); err != nil {
		t.Errorf("the right one: got %v", err)
	}
	long := strings.Repeat("x", maxPasswordBytes)
	longText, err := h.make(context.Background(), long)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"wrong": {"correct Horse", text}, "empty": {"", text}, "nobody": {"correct horse", ""},
		"longer": {long + "x", longText}, "no digest": {"correct horse", "correct horse"},
		"gigabytes": {"x", "$argon2id$v=19$m=4194304,t=2,p=1$" + strings.Repeat("A", 22) + "$" +
			strings.Repeat("A", 43)},
		"lanes": {"x", "$argon2id$v=19$m=19456,t=2,p=255$" + strings.Repeat("A", 22) + "$" +
			strings.Repeat("A", 43)},
		"another":   {"x", "$argon2i$v=19$m=19456,t=2,p=1$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)},
		"short key": {"x", "$argon2id$v=19$m=19456,t=2,p=1$" + strings.Repeat("A", 22) + "$"},
	} {
		if err := h.check(context.Background(), c[0], c[1]); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestPasswords(t *testing.T) {
	for password, want := range map[string]string{
		NewPassword(): "", "correct horse": "", "short": "12", "aaaaaaaaaaaa": "repeats",
		"hello Anna, dear": "user's name", "\xff\xff\xff\xffabcdefgh12": "UTF-8",
		strings.Repeat("abcde ", 50): "at most 256", "zwölf Zeichen": "",
		"passwordpassword": "again and again", "abc123abc123abc123": "again and again", "123456789012": "one row",
		"QWERTYuiopas": "one row", "zyxwvutsrqponm": "one row", "qwertyuiop, and more": "",
	} {
		err := CheckPassword("anna", password)
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) ||
			!errors.Is(err, ErrInvalid)) {
			t.Errorf("%q: got %v, want %q", password, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"anna": true, "anna@example.com": true, "a.b": true, "...": true,
		"": false, ".": false, "..": false, "a b": false, "a/b": false, "ü": false, strings.Repeat("a", 65): false,
	} {
		if err := CheckName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v, want ok %v", name, err, ok)
		}
	}
}

func TestRoles(t *testing.T) {
	for i, has := range Roles {
		for j, needed := range Roles {
			if has.Includes(needed) != (i >= j) {
				t.Errorf("%s, %s: got %v", has, needed, has.Includes(needed))
			}
		}
		if has.Includes("") || has.Includes("root") || Role("").Includes(has) || Role("root").Includes(has) {
			t.Errorf("%s beside what is no role", has)
		}
	}
}

// What one process changes another one sees within seconds; of two that change the
// same user at once one is told.
func TestTwoProcesses(t *testing.T) {
	server := natstest.Start(t)
	js, err := jetstream.New(server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := Open(ctx, js); !errors.Is(err, ErrNoBucket) {
		t.Errorf("before there is a bucket: got %v", err)
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: Bucket})
	if err != nil {
		t.Fatal(err)
	}
	connected := js.Conn().IsConnected
	one, two := New(kv, connected), New(kv, connected)
	var names []string
	for _, s := range []*Store{one, two} {
		name, password, err := s.First(ctx, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		t.Errorf("first users: got %v", names)
	}
	password, err := one.Add(ctx, "anna", Viewer, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if u, err := two.Verify(ctx, "ANNA", password); err != nil || u.Name != "anna" || u.Role != Viewer {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := one.SetRole(ctx, "anna", Admin); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the role to be seen", func() bool {
		u, err := two.Get(ctx, "anna")
		return err == nil && u.Role == Admin
	})
	if _, err := one.change(ctx, "anna", func(u *User) error {
		_, err := two.SetRole(ctx, "anna", Operator)
		return err
	}); !errors.Is(err, ErrChanged) {
		t.Errorf("two at once: got %v", err)
	}
	if err := one.Remove(ctx, "anna"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the user to be gone", func() bool {
		_, err := two.Get(ctx, "anna")
		return errors.Is(err, ErrNotFound)
	})
}
