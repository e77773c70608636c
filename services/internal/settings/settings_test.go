package settings_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limits is a service's configuration: two settings that depend on each other, one that
// is fixed, and a secret.
type limits struct {
	Message, Request int
	Origins          []string
	DryRun           bool
	Listen, Key      string
}

func (c *limits) settings() []config.Setting {
	return []config.Setting{
		{Flag: "max-message", Env: "HERALD_MAX_MESSAGE", Help: "bytes of a message", Kind: config.Bytes,
			Into: &c.Message},
		{Flag: "max-request", Env: "HERALD_MAX_REQUEST", Help: "bytes of a request", Kind: config.Bytes,
			Into: &c.Request},
		{Flag: "allowed-origins", Env: "HERALD_ALLOWED_ORIGINS", Help: "pages", Into: &c.Origins},
		{Flag: "dry-run", Env: "HERALD_DRY_RUN", Help: "refuse nobody", Into: &c.DryRun},
		{Flag: "listen", Env: "HERALD_LISTEN", Help: "address", Into: &c.Listen},
		{Env: "HERALD_API_KEY", Help: "a key", Secret: true, Into: &c.Key},
		{Flag: "health", Help: "ask", Into: new(bool)},
	}
}

func (c *limits) validate() error {
	if c.Message > c.Request {
		return fmt.Errorf("max-message: %d is more than max-request, %d", c.Message, c.Request)
	}
	if slices.Contains(c.Origins, "bad") {
		return errors.New(`allowed-origins: "bad" is not an origin`)
	}
	return nil
}

// process is one with a service in it.
type process struct {
	*settings.Live
	mu      sync.Mutex
	applied []limits
}

func start(t *testing.T, out *bytes.Buffer, args ...string) *process {
	t.Helper()
	began := limits{Message: 10, Request: 100, Origins: []string{"a"}, Listen: ":1"}
	table := began.settings()
	env := map[string]string{"HERALD_API_KEY": "secret-secret-secret", "HERALD_ALLOWED_ORIGINS": "b"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	if _, err := config.Parse("test", args, lookup, map[string]string{}, &bytes.Buffer{}, table); err != nil {
		t.Fatal(err)
	}
	if out == nil {
		out = &bytes.Buffer{}
	}
	p := &process{Live: settings.New(table, slog.New(slog.NewTextHandler(out, nil)))}
	p.Add(settings.Of("ingest", began, (*limits).settings, (*limits).validate, func(c limits) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.applied = append(p.applied, c)
	}, "max-message", "max-request", "allowed-origins", "dry-run"))
	return p
}

// now is what acts.
func (p *process) now() limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.applied) == 0 {
		return limits{}
	}
	return p.applied[len(p.applied)-1]
}

func (p *process) follow(t *testing.T, s *natstest.Server) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	nc := s.Connect()
	go func() { done <- p.Run(ctx, nc) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (p *process) describe(name string) settings.Description {
	for _, d := range p.Describe() {
		if d.Name == name {
			return d
		}
	}
	return settings.Description{}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// What is stored acts in every process, at once and after a start, until it is
// removed; a flag wins over it.
func TestStoredValuesAct(t *testing.T) {
	s := natstest.Start(t)
	one, flagged := start(t, nil), start(t, nil, "-max-request", "50")
	one.follow(t, s) // before the bucket is made
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	store, err := settings.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	flagged.follow(t, s)
	for name, value := range map[string]string{"max-request": "2KiB", "allowed-origins": "x,y", "dry-run": "true"} {
		if err := store.Set(t.Context(), name, value); err != nil {
			t.Fatal(err)
		}
	}
	acts := func(p *process, request int) func() bool {
		return func() bool {
			c := p.now()
			return c.Request == request && slices.Equal(c.Origins, []string{"x", "y"}) && c.DryRun && c.Message == 10
		}
	}
	eventually(t, "the values act", acts(one, 2048))
	eventually(t, "the flag wins", acts(flagged, 50))
	late := start(t, nil)
	late.follow(t, s)
	late.Await(t.Context(), time.Minute)
	if !acts(late, 2048)() {
		t.Errorf("a process that starts later: got %+v", late.now())
	}
	if err := start(t, nil, "-listen", ":3").Check("listen", ":2"); !errors.Is(err, settings.ErrFixed) {
		t.Errorf("a fixed setting with a flag: got %v", err) // without the flag it could not be changed either
	}
	if d := one.describe("max-request"); d.Value != "2KiB" || d.Source != config.FromConsole || d.Default != "100" ||
		!d.Live || d.Locked != "" {
		t.Errorf("described as %+v", d)
	}
	if d := flagged.describe("max-request"); d.Value != "50" || d.Source != config.FromFlag ||
		d.Locked != settings.ErrLocked.Error() || d.Stored != "2KiB" {
		t.Errorf("under a flag described as %+v", d)
	}
	if err := store.Unset(t.Context(), "allowed-origins"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the environment's value acts again",
		func() bool { return slices.Equal(one.now().Origins, []string{"b"}) })
	if d := one.describe("allowed-origins"); d.Stored != "" || one.describe("dry-run").Stored != "true" {
		t.Errorf("after one was removed: described as %+v", d)
	}
}

// A value that cannot act changes nothing and says why, and acts when it can.
func TestRefusedValues(t *testing.T) {
	s := natstest.Start(t)
	var out bytes.Buffer
	p := start(t, &out)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	store, err := settings.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	p.follow(t, s)
	p.Await(t.Context(), time.Minute)
	for name, c := range map[string]struct {
		value string
		want  string
	}{
		"max-message":     {"500", "max-message: 500 is more than max-request, 100"},
		"max-request":     {"much", "want bytes"},
		"allowed-origins": {"bad", `allowed-origins: "bad" is not an origin`},
		"listen":          {":2", settings.ErrFixed.Error()},
		"colour":          {"red", settings.ErrUnknown.Error()},
		"dry-run":         {"perhaps", "want true or false"},
		"":                {"x", settings.ErrUnknown.Error()},
	} {
		if err := p.Check(name, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: got %v, want %s", name, c.value, err, c.want)
		}
		if name == "" {
			continue
		}
		if err := store.Set(t.Context(), name, c.value); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the fault is described", func() bool {
		return strings.Contains(p.describe("dry-run").Fault, "true or false") && p.describe("max-message").Fault != ""
	})
	if got := p.now(); got.Message != 0 {
		t.Errorf("something was applied: %+v", got)
	}
	if err := p.Check("max-request", "1000"); err != nil {
		t.Error(err)
	}
	if err := store.Set(t.Context(), "max-request", "1000"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both act", func() bool { c := p.now(); return c.Message == 500 && c.Request == 1000 })
	if d := p.describe("max-message"); d.Fault != "" || d.Value != "500" {
		t.Errorf("described as %+v", d)
	}
}

// Secrets are named and never shown; what is no setting of a running process is left out.
func TestDescriptions(t *testing.T) {
	p := start(t, nil)
	if got := fmt.Sprintf("%+v", p.Describe()); strings.Contains(got, "secret-secret") {
		t.Errorf("a secret is shown: %s", got)
	}
	if d := p.describe("HERALD_API_KEY"); d.Value != "set" || d.Kind != "secret" || d.Source != config.FromEnv {
		t.Errorf("the secret is described as %+v", d)
	}
	kinds := map[string]string{"max-message": "bytes", "allowed-origins": "list", "dry-run": "switch", "listen": "text"}
	for name, kind := range kinds {
		if d := p.describe(name); d.Kind != kind {
			t.Errorf("%s: got kind %q, want %q", name, d.Kind, kind)
		}
	}
	if d := p.describe("dry-run"); d.Value != "false" || d.Default != "false" {
		t.Errorf("a switch is described as %+v", d)
	}
	if d := p.describe("allowed-origins"); d.Value != "b" || d.Default != "a" || d.Source != config.FromEnv ||
		!slices.Equal(d.Services, []string{"ingest"}) {
		t.Errorf("described as %+v", d)
	}
	if d := p.describe("health"); d.Name != "" {
		t.Errorf("what only a command line has is described: %+v", d)
	}
	var none *settings.Live
	none.Add(settings.Part{})
	none.Await(t.Context(), time.Hour)
	if none.Describe() != nil {
		t.Error("none has settings")
	}
}

// Of two who change a setting at once one is told.
func TestReplace(t *testing.T) {
	server := natstest.Start(t)
	js, err := jetstream.New(server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	store, err := settings.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	revision := func() uint64 {
		t.Helper()
		n, err := store.Revision(t.Context(), "max-message")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b := "1", "2"
	replace := func(value *string, over uint64, want error) {
		t.Helper()
		if err := store.Replace(t.Context(), "max-message", value, over); !errors.Is(err, want) || err != nil &&
			want == nil {
			t.Errorf("over %d: got %v, want %v", over, err, want)
		}
	}
	replace(nil, revision(), nil) // nothing is there
	none := revision()
	replace(&a, none, nil)
	replace(&b, none, settings.ErrChanged)
	first := revision()
	replace(&b, first, nil)
	replace(&a, first, settings.ErrChanged)
	replace(nil, first, settings.ErrChanged)
	replace(nil, revision(), nil)
	if n := revision(); n != 0 {
		t.Errorf("after it was removed: revision %d", n)
	}
	replace(&a, 0, nil)
}
