package settings

import (
	"slices"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/config"
)

// Description is one setting of a process, as the console shows it. Values are text as
// on the command line; those of secrets are never in it.
type Description struct {
	Name    string        `json:"name"` // its flag; of a secret without one its variable
	Env     string        `json:"env"`
	Group   string        `json:"group"`
	Help    string        `json:"help"`
	Kind    string        `json:"kind"` // number, bytes, duration, list, switch, choice, text or secret
	Choices []string      `json:"choices,omitempty"`
	Value   string        `json:"value"` // what acts; of a secret "set" or nothing
	Default string        `json:"default"`
	Source  config.Source `json:"source"`
	// Live settings change while the process runs.
	Live bool `json:"live"`
	// Locked says why the console cannot change it; empty: it can.
	Locked string `json:"locked"`
	// Stored is what the console stored, Fault why that does not act.
	Stored string `json:"stored"`
	Fault  string `json:"fault,omitempty"`
	// Services are those of this process that follow it.
	Services []string `json:"services"`
}

// Describe is every setting of the process, in the table's order; nil on a nil Live.
func (l *Live) Describe() []Description {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Description, 0, len(l.table))
	for _, s := range l.table {
		if s.Env == "" { // it is for the command line alone, such as -health
			continue
		}
		out = append(out, l.describe(s))
	}
	return out
}

func (l *Live) describe(s config.Setting) Description {
	d := Description{
		Name: s.Flag, Env: s.Env, Group: groupOf(s), Help: s.Help, Kind: kindOf(s), Choices: s.Choices,
		Value: l.began[s.Flag], Default: s.Initial, Source: s.From, Services: []string{},
	}
	if d.Kind == "switch" && d.Default == "" {
		d.Default = "false"
	}
	if s.Secret {
		if d.Name == "" {
			d.Name = s.Env
		}
		if d.Value, d.Default = "", ""; s.From != config.FromDefault {
			d.Value = "set"
		}
	}
	for _, p := range l.parts {
		if slices.Contains(p.names, s.Flag) {
			d.Services = append(d.Services, p.service)
		}
	}
	switch d.Live = len(d.Services) > 0; {
	case !d.Live:
		d.Locked = ErrFixed.Error()
	case s.From == config.FromFlag:
		d.Locked = ErrLocked.Error()
	}
	d.Stored, d.Fault = l.stored[s.Flag], l.faults[s.Flag]
	if v, ok := l.acting[s.Flag]; ok && s.Flag != "" {
		d.Value, d.Source = v, config.FromConsole
	}
	return d
}

func kindOf(s config.Setting) string {
	switch s.Into.(type) {
	case *bool:
		return "switch"
	case *int, *int64, *float64:
		if s.Kind == config.Bytes {
			return "bytes"
		}
		return "number"
	case *time.Duration:
		return "duration"
	case *[]string:
		return "list"
	}
	switch {
	case s.Secret:
		return "secret"
	case len(s.Choices) > 0:
		return "choice"
	default:
		return "text"
	}
}

// groupOf puts a setting beside those that an operator looks for in the same place.
func groupOf(s config.Setting) string {
	name := strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(s.Env), "_", "-"), "herald-")
	for _, g := range []struct {
		group    string
		prefixes []string
	}{
		{"limits", []string{"max-", "connection-limit", "replay-", "recent-", "compress-"}},
		{"access", []string{"allowed-origins", "anonymous-channels", "api-key", "jwt", "jwks", "token-cookie", "hosts",
			"trusted-proxies", "engineio-", "console", "oidc"}},
		{"retention", []string{"stream-", "log-max-", "replicas", "sync"}},
		{"network", []string{"listen", "ops-listen", "tls-", "nats"}},
	} {
		if slices.ContainsFunc(g.prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return g.group
		}
	}
	return "service"
}
