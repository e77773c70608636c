package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
)

// token signs a token for a client, to try things: a backend signs its own.
func token(_ context.Context, args []string, env config.Env, std streams) error {
	secret, p, expires := "", auth.Principal{}, time.Hour
	rest, err := config.Parse("herald token", args, env, nil, std.out, []config.Setting{
		{Env: "HERALD_JWT_SECRET", Help: "the secret that Herald checks tokens with", Secret: true, Into: &secret},
		{Flag: "sub", Help: "whom the token is for", Into: &p.Name},
		{Flag: "channels", Help: "patterns the client may follow, comma-separated", Into: &p.Channels},
		{Flag: "expires", Help: "for how long it is valid", Into: &expires},
	})
	switch {
	case err != nil:
		return err
	case secret == "":
		return errors.New("set HERALD_JWT_SECRET to the secret that Herald was started with")
	case p.Name == "" || len(p.Channels) == 0 || len(rest) > 0 || expires <= 0:
		return errors.New("want herald token -sub NAME -channels PATTERNS [-expires 1h]")
	}
	for _, c := range p.Channels {
		if err := proto.CheckPattern(c); err != nil {
			return err
		}
	}
	p.Expires = time.Now().Add(expires)
	signed, err := auth.Sign(secret, p)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.out, signed)
	return err
}
