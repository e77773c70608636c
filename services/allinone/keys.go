package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

var keysCommand = command{
	name: "keys", args: "add|list|rotate|revoke [NAME]", does: "manage API keys",
	about: "Manages the API keys of the Herald that runs on this machine, or, with -nats, of another deployment.\n" +
		"A change counts everywhere at once. A key is shown once, when it is made; only its digest is kept.",
	examples: []string{
		"herald keys add shop -channels 'orders.>' -rate 50 -expires 720h",
		"herald keys list",
		"herald keys rotate shop -grace 24h",
		"herald keys revoke shop          # its name, or the id of one key",
	},
	start: func(c *call) task {
		k := &keyring{cfg: defaultConfig(), channels: []string{">"}, grace: 24 * time.Hour, out: c.std.out}
		return task{
			settings: append([]config.Setting{
				{Flag: "channels", Help: "add: patterns the key may publish to, comma-separated; > is all", Into: &k.channels},
				{Flag: "rate", Help: "add: messages a second it may publish, per ingest; 0: no limit", Into: &k.rate},
				{Flag: "expires", Help: "add: for how long the key is valid; 0s: until it is revoked", Into: &k.expires},
				{Flag: "grace", Help: "rotate: for how long the old key stays valid", Into: &k.grace},
				{Flag: "data", Env: "HERALD_DATA", Help: "data folder of the Herald that runs on this machine", Into: &k.cfg.Data},
				{Flag: "nats", Env: "HERALD_NATS_URL", Help: "NATS servers of another deployment", Secret: true, Into: &k.cfg.NATS.URL},
			}, k.cfg.NATS.SecuritySettings()...),
			run: k.run,
		}
	},
}

// keyring is what herald keys works on, and the settings of its verbs.
type keyring struct {
	cfg            Config // where NATS is
	channels       []string
	rate           int
	expires, grace time.Duration
	out            io.Writer
}

// run finds the key bucket and does what the first word says.
func (k *keyring) run(ctx context.Context, words []string) error {
	verb, name, err := keyVerb(words)
	if err != nil {
		return err
	}
	cfg := k.cfg
	where, err := findNATS(cfg)
	if err != nil {
		return err
	}
	nc, err := natsx.Connect(where, slog.New(slog.DiscardHandler))
	if err != nil {
		if cfg.NATS.URL == "" {
			return fmt.Errorf("%w: the Herald of %s does not answer; start it", errNotRunning, cfg.Data)
		}
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	store, err := keystore.Open(ctx, js, 1)
	if err != nil {
		return err
	}
	return k.do(ctx, store, verb, name)
}

// keyVerb takes the words apart: a verb, and the name that all but list need.
func keyVerb(words []string) (verb, name string, err error) {
	if len(words) == 0 {
		return "", "", errors.New("want add NAME, list, rotate NAME, or revoke NAME; herald keys -h explains them")
	}
	switch verb, rest := words[0], words[1:]; {
	case verb == "list" && len(rest) == 0:
		return verb, "", nil
	case verb == "list":
		return "", "", fmt.Errorf("list takes no name: %q", rest)
	case verb != "add" && verb != "rotate" && verb != "revoke":
		return "", "", fmt.Errorf("%q: want add, list, rotate or revoke; herald keys -h explains them", verb)
	case len(rest) != 1:
		return "", "", fmt.Errorf("%s takes one name, such as: herald keys %s shop", verb, verb)
	default:
		return verb, rest[0], nil
	}
}

func (k *keyring) do(ctx context.Context, store *keystore.Store, verb, name string) error {
	now, out := time.Now(), k.out
	switch verb {
	case "add":
		o := keystore.Options{Channels: k.channels, Rate: float64(k.rate)}
		if k.expires > 0 {
			o.Expires = now.Add(k.expires).UTC().Truncate(time.Second)
		}
		secret, made, err := store.Add(ctx, name, o, now)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "API key: %s\nKeep it: it is shown this once. Its id is %s; it may publish to %s.\n", secret, made.ID, strings.Join(made.Channels, ", "))
	case "rotate":
		secret, made, err := store.Rotate(ctx, name, k.grace, now)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "API key: %s\nKeep it: it is shown this once. Its id is %s; the old one ends in %s.\n", secret, made.ID, k.grace)
	case "revoke":
		n, err := store.Revoke(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "revoked: %d\n", n)
	case "list":
		list, err := store.List(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tID\tCHANNELS\tRATE\tCREATED\tEXPIRES\tLAST USED")
		for _, key := range list {
			rate := "-"
			if key.Rate > 0 {
				rate = fmt.Sprintf("%g/s", key.Rate)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", key.Name, key.ID, strings.Join(key.Channels, ","), rate, day(key.Created), day(key.Expires), day(key.LastUsed))
		}
		return w.Flush()
	}
	return nil
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}
