// Command herald is the whole of Herald as one binary: without a command it
// serves; with one it talks to any deployment.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	std := streams{os.Stdin, os.Stdout, os.Stderr}
	for _, sentence := range config.Misspelt(os.Environ()) {
		fmt.Fprintln(os.Stderr, "herald: WARN", sentence)
	}
	args := os.Args[1:]
	if launchedAsDesktop(args, os.Environ()) {
		args = append([]string{desktopCommand.name}, args...)
	}
	if err := run(ctx, args, os.LookupEnv, std); err != nil {
		fmt.Fprintln(os.Stderr, "herald:", err)
		os.Exit(1)
	}
}

// streams are the terminal, or what a test has in its place.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// commands is herald's table of contents.
func commands() []command {
	return []command{
		serveCommand, desktopCommand, serviceCommand, sendCommand, listenCommand, loadCommand, keysCommand, appsCommand,
		usersCommand, tokenCommand, logCommand, topCommand, doctorCommand,
		{
			name: "version", does: "say which Herald this is",
			about: "Prints the version, the revision of the source, when it was built, and with what.",
			start: func(c *call) task {
				return task{run: func(_ context.Context, words []string) error {
					if len(words) > 0 {
						return fmt.Errorf("unexpected argument %q", words[0])
					}
					_, err := fmt.Fprintln(c.std.out, "herald", telemetry.BuildDetails())
					return err
				}}
			},
		},
	}
}

// run finds the command and runs it. Without one, serve is meant.
func run(ctx context.Context, args []string, env config.Env, std streams) error {
	name, rest := "serve", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, rest = args[0], args[1:]
	}
	switch {
	case len(args) > 0 && (args[0] == "-version" || args[0] == "--version"):
		name, rest = "version", args[1:]
	case len(args) > 0 && isHelp(args[0]):
		help(std.out)
	case name == "help" && len(rest) == 0:
		help(std.out)
		return nil
	case name == "help": // herald help keys
		name, rest = rest[0], []string{"-h"}
	}
	all := commands()
	at := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if at < 0 {
		help(std.err)
		return fmt.Errorf("there is no command %q", name)
	}
	return all[at].execute(ctx, &call{args: rest, env: env, std: std})
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func help(w io.Writer) {
	fmt.Fprint(w, "Herald pushes messages from backends to browsers.\n\n")
	all, width := commands(), 0 // of the first column, as fmt counts
	for _, c := range all {
		width = max(width, utf8.RuneCountInString(c.name+" "+c.args))
	}
	for _, c := range all {
		fmt.Fprintf(w, "  herald %-*s  %s\n", width, c.name+" "+c.args, c.does)
	}
	fmt.Fprint(w, "\nherald COMMAND -h, or herald help COMMAND, explains a command and its settings.\n\n")
}
