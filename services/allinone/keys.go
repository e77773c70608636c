package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/keystore"
)

var keysCommand = command{
	name: "keys", args: "add|list|rotate|revoke [NAME]", does: "manage API keys",
	about: `
Manages the API keys of the Herald that runs on this machine, or, with -nats, of another deployment.
A change counts everywhere at once. A key is shown once, when it is made; only its digest is kept.`,
	examples: []string{
		"herald keys add shop -channels 'orders.>' -rate 50 -expires 30d   # may publish, nothing else",
		"herald keys add audit -may history,log",
		"herald keys list",
		"herald keys rotate shop -grace 24h",
		"herald keys revoke shop          # its name, or the id of one key",
	},
	start: func(c *call) task {
		k := &keyring{manager: newManager(c), channels: []string{">"}, may: []string{string(auth.Publish)},
			grace: 24 * time.Hour}
		return task{
			settings: k.settings(
				config.Setting{Flag: "may",
					Help: "add: what the key may do, comma-separated: publish, history (read what the stream " +
						"keeps), log (read who sent what), " +
						"admin; with all four and all channels it also sees publishers' addresses", Into: &k.may},
				config.Setting{Flag: "channels",
					Help: "add: patterns that it may do this with, comma-separated; > is all", Into: &k.channels},
				config.Setting{Flag: "rate",
					Help: "add: messages a second it may publish, such as 50 or 0.5, per ingest; 0: no limit",
					Into: &k.rate},
				config.Setting{Flag: "expires",
					Help: "add: for how long the key is valid, such as 720h or 30d, or its last day (UTC), such as " +
						"2027-12-31, or when it ends (RFC 3339); 0s: until it is revoked", Into: &k.expires},
				config.Setting{Flag: "grace", Help: "rotate: for how long the old key stays valid", Into: &k.grace},
			),
			run: k.run,
		}
	},
}

// keyring is what herald keys works on, and the settings of its verbs.
type keyring struct {
	manager
	channels, may []string
	rate          float64
	expires       expiry
	grace         time.Duration
}

var keyVerbs = verbs{command: "keys", of: "key", all: []string{"add", "list", "rotate", "revoke"}, example: "shop",
	refused: keystore.Refused}

// run does what the first word says.
func (k *keyring) run(ctx context.Context, words []string) error {
	return manage(ctx, &k.manager, keyVerbs, words, keystore.Open, k.do)
}

// do does it, and says what the audit has to know.
func (k *keyring) do(ctx context.Context, store *keystore.Store, verb, name string) (before, after any, err error) {
	now, out := time.Now(), k.out
	switch verb {
	case "add":
		may, err := auth.ParseScopes(k.may)
		if err != nil {
			return nil, nil, mistake{err}
		}
		o := keystore.Options{Channels: k.channels, May: may, Rate: k.rate}
		if o.Expires, err = k.expires.after(now); err != nil {
			return nil, nil, mistake{err}
		}
		secret, made, err := store.Add(ctx, name, o, now)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(out,
			"API key: %s\nKeep it: it is shown this once. Its id is %s; its scopes are %s, on the channels %s.\n",
			secret, made.ID, auth.JoinScopes(made.May), strings.Join(made.Channels, ", "))
		return nil, auditedKey(made), nil
	case "rotate":
		secret, made, err := store.Rotate(ctx, name, k.grace, now)
		switch {
		case secret == "":
			return nil, nil, err
		case err != nil: // the new one works
			fmt.Fprintf(out, "API key: %s\nKeep it: it is shown this once. Its id is %s.\n", secret, made.ID)
			return nil, auditedKey(made), err
		}
		fmt.Fprintf(out, "API key: %s\nKeep it: it is shown this once. Its id is %s; the old one ends in %s.\n", secret,
			made.ID, k.grace)
		return nil, auditedKey(made), nil
	case "revoke":
		list, err := store.List(ctx)
		if err != nil {
			return nil, nil, err
		}
		gone := []keyOf{}
		for _, key := range list {
			if key.Name == name || key.ID == name {
				gone = append(gone, auditedKey(key.Key))
			}
		}
		n, err := store.Revoke(ctx, name)
		if err != nil {
			return gone, nil, err
		}
		fmt.Fprintf(out, "revoked: %d\n", n)
		return gone, nil, nil
	}
	return nil, nil, k.list(ctx, store)
}

// keyOf is a key as the audit has it: without its digest.
type keyOf struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	Channels []string     `json:"channels"`
	Scopes   []auth.Scope `json:"scopes"`
	Rate     float64      `json:"rate"`
	Expires  time.Time    `json:"expires,omitzero"`
}

func auditedKey(k auth.Key) keyOf { return keyOf{k.ID, k.Name, k.Channels, k.May, k.Rate, k.Expires} }

// list prints all keys.
func (k *keyring) list(ctx context.Context, store *keystore.Store) error {
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	w := k.table("NAME\tID\tMAY\tCHANNELS\tRATE\tCREATED\tEXPIRES\tLAST USED")
	for _, key := range list {
		may := auth.JoinScopes(key.May)
		if key.May == nil && !key.Damaged {
			may = "everything (from before -may)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", key.Name, key.ID, may, strings.Join(key.Channels, ","),
			rate(key.Rate), day(key.Created), day(key.Expires), day(key.LastUsed))
	}
	return w.Flush()
}

// expiry is when a key or a token ends, as a person says it: a duration from now
// on, its last day, or a time.
type expiry struct {
	in   time.Duration
	at   time.Time // of the end; zero: in counts
	text string    // that at was read from
}

func (e *expiry) UnmarshalText(b []byte) error {
	text := string(b)
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		*e = expiry{at: day.AddDate(0, 0, 1), text: text}
		return nil
	}
	if at, err := config.Time(text); err == nil {
		*e = expiry{at: at.UTC(), text: text}
		return nil
	}
	d, err := config.Duration(text)
	if err != nil || d < 0 {
		return errors.New("want a duration such as 720h or 30d, up to 106751d, a day such as 2027-12-31, or " +
			"a time such as 2027-12-31T12:00:00Z")
	}
	*e = expiry{in: d}
	return nil
}

func (e *expiry) MarshalText() ([]byte, error) { return []byte(e.in.String()), nil } // the default

// after is the time of the end for what is made now; zero: none.
func (e expiry) after(now time.Time) (time.Time, error) {
	switch {
	case e.at.IsZero() && e.in == 0:
		return time.Time{}, nil
	case e.at.IsZero():
		return now.Add(e.in).UTC().Truncate(time.Second), nil
	case !e.at.After(now):
		return time.Time{}, fmt.Errorf("expires: %s is over; what has ended is of no use", e.text)
	}
	return e.at, nil
}
