// Command herald is the whole of Herald as one binary: without a command it
// serves; with one it talks to any deployment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	std := streams{os.Stdin, os.Stdout, os.Stderr}
	if err := run(ctx, os.Args[1:], os.LookupEnv, std); err != nil {
		fmt.Fprintln(os.Stderr, "herald:", err)
		os.Exit(1)
	}
}

// streams are the terminal, or what a test has in its place.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// command is one word after herald.
type command struct {
	name, args, help string
	run              func(ctx context.Context, args []string, env config.Env, std streams) error
}

func commands() []command {
	return []command{
		{"serve", "", "run everything in this process (also without a command)", serve},
		{"send", "[MESSAGE…]", "publish the words as one text message, or each line of standard input", send},
		{"listen", "[CHANNEL…]", "print messages as they arrive, one JSON line each; resumes by itself", listen},
		{"keys", "add|list|rotate|revoke", "manage API keys", keys},
		{"token", "-sub NAME -channels C", "sign a token for a client, to try things", token},
		{"log", "[WORD…]", "show who sent what, when; words search the messages", showLog},
		{"doctor", "", "find out what is wrong, and what to do about it", doctor},
	}
}

// run finds the command. Every command prints its own help for -h.
func run(ctx context.Context, args []string, env config.Env, std streams) error {
	name, rest := "serve", args
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		name, rest = args[0], args[1:]
	}
	for _, arg := range args {
		if arg == "-version" || arg == "--version" {
			_, err := fmt.Fprintln(std.out, "herald", telemetry.BuildVersion())
			return err
		}
		if len(arg) == 0 || arg[0] != '-' {
			break
		}
	}
	if name == "help" {
		help(std.out)
		return nil
	}
	for _, c := range commands() {
		if c.name == name {
			if len(args) > 0 && name == "serve" && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
				help(std.out)
			}
			err := c.run(ctx, rest, env, std)
			if errors.Is(err, config.ErrHelp) {
				return nil
			}
			return err
		}
	}
	help(std.err)
	return fmt.Errorf("there is no command %q", name)
}

func help(w io.Writer) {
	fmt.Fprint(w, "Herald pushes messages from backends to browsers.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  herald %-6s %-24s %s\n", c.name, c.args, c.help)
	}
	fmt.Fprint(w, "\nherald COMMAND -h explains the settings of a command.\n\n")
}
