package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/nats-io/nats.go/jetstream"
)

// manager is what the commands keys, apps and users have in common: a deployment whose buckets they change, and a verb
// with a name.
type manager struct {
	cfg Config // where NATS is
	out io.Writer
}

func newManager(c *call) manager { return manager{cfg: defaultConfig(), out: c.std.out} }

// settings are the command's own, and behind them those that say where NATS is.
func (m *manager) settings(own ...config.Setting) []config.Setting {
	own = append(own,
		config.Setting{Flag: "data", Env: "HERALD_DATA", Help: "data folder of the Herald that runs on this machine",
			NotEmpty: true, Into: &m.cfg.Data},
		config.Setting{Flag: "nats", Env: "HERALD_NATS_URL", Help: "NATS servers of another deployment", Secret: true,
			Into: &m.cfg.NATS.URL},
	)
	return append(own, m.cfg.NATS.SecuritySettings()...)
}

// manage opens a bucket and does with it what the words say. do returns how what it changed was before and is after, as
// the audit has it.
func manage[S any](ctx context.Context, m *manager, v verbs, words []string,
	open func(context.Context, jetstream.JetStream) (S, error),
	do func(ctx context.Context, store S, verb, name string) (before, after any, err error),
) error {
	verb, name, err := v.parse(words)
	if err != nil {
		return err
	}
	return onNATS(ctx, m.cfg, func(ctx context.Context, js jetstream.JetStream) error {
		store, err := open(ctx, js)
		if err != nil {
			return err
		}
		change := func() (before, after any, err error) { return do(ctx, store, verb, name) }
		if verb == "list" {
			_, _, err = change()
			return err
		}
		err = audited(ctx, js, commandRow(v.of+"."+verb, name), v.refused, change)
		if cause := interrupted(ctx); err != nil && cause != nil {
			return fmt.Errorf("%w; herald %s list shows whether it was done", cause, v.command)
		}
		return err
	})
}

// table writes lines whose columns are separated by tabs. The caller flushes it.
func (m *manager) table(header string) *tabwriter.Writer {
	w := tabwriter.NewWriter(m.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	return w
}

// verbs are the first words that a command knows. All but list need a name behind them.
type verbs struct {
	command string
	of      string // what they change, as the audit calls it
	all     []string
	example string           // a name
	refused func(error) bool // reports whether an error says that nothing was changed, because of what was asked for
}

// parse splits a command line into its words. The error says what the command wants.
func (v verbs) parse(words []string) (verb, name string, err error) {
	if len(words) == 0 {
		var want []string
		for _, verb := range v.all {
			if verb != "list" {
				verb += " NAME"
			}
			want = append(want, verb)
		}
		last := len(want) - 1
		return "", "", fmt.Errorf("want %s, or %s; herald %s -h explains them", strings.Join(want[:last], ", "),
			want[last], v.command)
	}
	verb, rest := words[0], words[1:]
	switch last := len(v.all) - 1; {
	case !slices.Contains(v.all, verb):
		return "", "", fmt.Errorf("%q: want %s or %s; herald %s -h explains them", verb,
			strings.Join(v.all[:last], ", "), v.all[last], v.command)
	case verb == "list" && len(rest) > 0:
		return "", "", fmt.Errorf("list takes no name: %q", rest)
	case verb == "list":
		return verb, "", nil
	case len(rest) != 1:
		return "", "", fmt.Errorf("%s takes one name, such as: herald %s %s %s", verb, v.command, verb, v.example)
	}
	return verb, rest[0], nil
}

// rate is a limit in messages a second as a table shows it.
func rate(perSecond float64) string {
	if perSecond <= 0 {
		return "-"
	}
	return fmt.Sprintf("%g/s", perSecond)
}

// day is a time as a table shows it, in UTC.
func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}
