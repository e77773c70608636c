package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

const keysHelp = `herald keys add NAME [-channels PATTERNS] [-rate N] [-expires 720h]
herald keys list
herald keys rotate NAME [-grace 24h]
herald keys revoke NAME-or-ID
`

// keyFlags are what the verbs take beside the name.
type keyFlags struct {
	channels       []string
	rate           int
	expires, grace time.Duration
}

// keys manages API keys over NATS: a change counts on every ingest at once.
func keys(ctx context.Context, args []string, env config.Env, std streams) error {
	f := keyFlags{channels: []string{">"}, grace: 24 * time.Hour}
	cfg := defaultConfig()
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	settings := []config.Setting{
		{Flag: "channels", Help: "patterns the key may publish to, comma-separated; > is all", Into: &f.channels},
		{Flag: "rate", Help: "messages a second it may publish, per ingest; 0: no limit", Into: &f.rate},
		{Flag: "expires", Help: "for how long the key is valid; 0s: until it is revoked", Into: &f.expires},
		{Flag: "grace", Help: "rotate: for how long the old key stays valid", Into: &f.grace},
		{Flag: "data", Env: "HERALD_DATA", Help: "data folder of the Herald that runs on this machine", Into: &cfg.Data},
		{Flag: "nats", Env: "HERALD_NATS_URL", Help: "NATS servers of another deployment", Secret: true, Into: &cfg.NATS.URL},
	}
	settings = append(settings, cfg.NATS.SecuritySettings()...)
	names, err := parseAnywhere("herald keys", args, env, std.out, settings)
	if errors.Is(err, config.ErrHelp) {
		fmt.Fprint(std.out, "\n"+keysHelp)
	}
	if err != nil {
		return err
	}
	wantName := verb == "add" || verb == "rotate" || verb == "revoke"
	if !wantName && verb != "list" || wantName != (len(names) == 1) {
		return fmt.Errorf("want one of\n%s", keysHelp)
	}

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
	return f.do(ctx, store, verb, strings.Join(names, ""), std.out)
}

func (f keyFlags) do(ctx context.Context, store *keystore.Store, verb, name string, out io.Writer) error {
	now := time.Now()
	switch verb {
	case "add":
		o := keystore.Options{Channels: f.channels, Rate: float64(f.rate)}
		if f.expires > 0 {
			o.Expires = now.Add(f.expires).UTC().Truncate(time.Second)
		}
		secret, k, err := store.Add(ctx, name, o, now)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "API key: %s\nKeep it: it is shown this once. Its id is %s; it may publish to %s.\n", secret, k.ID, strings.Join(k.Channels, ", "))
	case "rotate":
		secret, k, err := store.Rotate(ctx, name, f.grace, now)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "API key: %s\nKeep it: it is shown this once. Its id is %s; the old one ends in %s.\n", secret, k.ID, f.grace)
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
		for _, k := range list {
			rate := "-"
			if k.Rate > 0 {
				rate = fmt.Sprintf("%g/s", k.Rate)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Name, k.ID, strings.Join(k.Channels, ","), rate, day(k.Created), day(k.Expires), day(k.LastUsed))
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

// parseAnywhere parses flags that stand before or behind the other arguments,
// as people type them: keys add shop -channels 'orders.>'.
func parseAnywhere(name string, args []string, env config.Env, out io.Writer, settings []config.Setting) (words []string, err error) {
	var flags []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			words = append(words, arg)
			continue
		}
		flags = append(flags, arg)
		bare := strings.TrimLeft(arg, "-")
		takesValue := slices.ContainsFunc(settings, func(s config.Setting) bool {
			_, isBool := s.Into.(*bool)
			return s.Flag == bare && !isBool
		})
		if takesValue && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	_, err = config.Parse(name, flags, env, nil, out, settings)
	return words, err
}
