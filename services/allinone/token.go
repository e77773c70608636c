package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
)

var tokenCommand = command{
	name: "token", args: "-sub NAME -channels C", does: "sign a token for a client, to try things",
	about: `
Signs a token and prints it: with HERALD_JWT_SECRET, or else with the secret that the Herald of this machine
made for itself, jwt.secret in its data folder. It is for trying things: a backend signs its own, with any JWT library.
`,
	examples: []string{
		"herald token -sub user-4711 -channels 'user.4711.>' -expires 1h",
		"HERALD_TOKEN=$(herald token -sub me -channels '>') herald listen orders.eu",
	},
	start: func(c *call) task {
		t := &signer{data: defaultConfig().Data, expires: expiry{in: time.Hour}, out: c.std.out}
		return task{
			settings: []config.Setting{
				{Env: "HERALD_JWT_SECRET", Help: "the secret that Herald checks tokens with", Secret: true,
					Into: &t.secret},
				{Flag: "jwt-audience", Env: "HERALD_JWT_AUDIENCE",
					Help: "its claim aud: the first of what Herald accepts; none: it has no such claim",
					Into: &t.audience},
				{Flag: "jwt-issuer", Env: "HERALD_JWT_ISSUER",
					Help: "its claim iss: the first of what Herald accepts; none: it has no such claim",
					Into: &t.issuer},
				{Flag: "data", Env: "HERALD_DATA",
					Help: "data folder of the Herald that runs on this machine, for its own secret", NotEmpty: true,
					Into: &t.data},
				{Flag: "sub", Help: "whom the token is for", Into: &t.Name},
				{Flag: "channels", Help: "patterns the client may follow, comma-separated", Into: &t.Channels},
				{Flag: "expires",
					Help: "for how long it is valid, such as 1h or 30d, or its last day (UTC), such as 2027-12-31, " +
						"or when it ends (RFC 3339)", Into: &t.expires},
			},
			run: t.run,
		}
	},
}

// signer makes one token.
type signer struct {
	auth.Principal
	secret, data     string
	audience, issuer []string
	expires          expiry
	out              io.Writer
}

func (t *signer) run(_ context.Context, words []string) error {
	const usage = "; want herald token -sub NAME -channels PATTERNS [-expires 1h]"
	switch {
	case len(words) > 0:
		return fmt.Errorf("token takes no arguments, only settings: %q"+usage, words)
	case t.Name == "":
		return errors.New("-sub is missing: whom the token is for" + usage)
	case len(t.Channels) == 0:
		return errors.New("-channels is missing: the patterns that the client may follow, such as 'user.4711.>'" +
			usage)
	}
	if t.secret == "" {
		b, err := os.ReadFile(tokenSecretFile(t.data))
		if err != nil {
			return fmt.Errorf("%w; set HERALD_JWT_SECRET to the secret that Herald was started with, or name the "+
				"data folder with -data", err)
		}
		t.secret = string(b)
	}
	ends, err := t.expires.after(time.Now())
	switch {
	case err != nil:
		return err
	case ends.IsZero():
		return errors.New("expires: 0s; a token that has ended is of no use")
	}
	for _, c := range t.Channels {
		if err := proto.CheckPattern(c); err != nil {
			return err
		}
	}
	t.Expires = ends
	signed, err := auth.Sign(auth.Signing{Secret: t.secret, Audience: first(t.audience), Issuer: first(t.issuer)},
		t.Principal)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.out, signed)
	return err
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}
