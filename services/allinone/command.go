package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/herald-push/herald/services/internal/config"
)

// command is one word after herald.
type command struct {
	name, args string // as in its usage line: herald NAME ARGS
	does       string // one line of herald help
	about      string // sentences of herald NAME -h
	examples   []string
	start      func(*call) task
}

// call is one run of a command: what was typed, and where.
type call struct {
	args []string // after the command's name
	env  config.Env
	std  streams
	// ready, if set, is called once Herald serves, after the greeting.
	ready func(*greeting, *broker)
}

// task is a command that has its settings, each with its default in Into, and
// waits for their values.
type task struct {
	settings []config.Setting
	// file holds the values of the config file by Setting.Key, for a command
	// that reads one; fileErr is what is wrong with it.
	file    map[string]string
	fileErr error
	// run does the work. words are the arguments that are no flags.
	run func(ctx context.Context, words []string) error
	// refused, if set, is told what is wrong with the settings, in place of run.
	refused func(error) error
}

// execute reads the settings of one call, and runs it or explains the command.
func (c *command) execute(ctx context.Context, in *call) error {
	t := c.start(in)
	name := "herald " + c.name
	var settings bytes.Buffer // the help's part that config prints
	words, err := config.Parse(name, in.args, in.env, t.file, &settings, t.settings)
	if errors.Is(err, config.ErrHelp) {
		c.explain(in.std.out, len(t.settings) > 0)
		if len(t.settings) > 0 {
			fmt.Fprintf(in.std.out, "\n%s", settings.Bytes())
		}
		return nil
	}
	if err = errors.Join(t.fileErr, err); err != nil {
		if t.refused != nil {
			return t.refused(err)
		}
		return err
	}
	if err := t.run(ctx, words); err != nil {
		return told(ctx, err)
	}
	return nil
}

// interrupted is what ended ctx before its time, such as Ctrl-C; nil: it goes on, or its time is over.
func interrupted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	return nil
}

// told is the error that a person sees of a command that ended with err: where Ctrl-C broke off what was under way,
// that it did, and not what was broken off, which would blame a server that is well.
func told(ctx context.Context, err error) error {
	if cause := interrupted(ctx); cause != nil && errors.Is(err, context.Canceled) &&
		!strings.Contains(err.Error(), cause.Error()) {
		return cause
	}
	return err
}

// explain prints the usage line, what the command does, and examples.
func (c *command) explain(w io.Writer, settings bool) {
	usage := []string{"Usage: herald", c.name, c.args, "[-SETTING VALUE…]"}
	if !settings {
		usage = usage[:3]
	}
	usage = slices.DeleteFunc(usage, func(s string) bool { return s == "" })
	fmt.Fprintf(w, "%s\n\n%s\n", strings.Join(usage, " "), strings.TrimSpace(c.about))
	for i, example := range c.examples {
		if i == 0 {
			fmt.Fprint(w, "\nFor example:\n\n")
		}
		fmt.Fprintf(w, "  %s\n", example)
	}
}
