package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	account "os/user"
	"time"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/nats-io/nats.go/jetstream"
)

// commandRow is the row of the audit for what a command is about to do.
func commandRow(action, target string) audit.Row {
	who, where := commandLine()
	if users.CheckName(target) != nil { // a damaged user can be removed, and names of keys may have spaces
		target = fmt.Sprintf("%.64q", target)
	}
	return audit.Row{Time: time.Now().UTC().Truncate(time.Millisecond), User: who, Address: where, Action: action,
		Target: target, Before: audit.Value(nil), After: audit.Value(nil)}
}

// commandLine is who runs this command, as the audit has it, and on which machine. No user of the console can have
// such a name.
func commandLine() (who, where string) {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := account.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	where, _ = os.Hostname() // empty: not known
	return "(command line) " + name, where
}

// audited writes down what is about to be done, does it, and writes down what came of it. Where no console has made an
// audit it only does it.
func audited(ctx context.Context, js jetstream.JetStream, row audit.Row, refused func(error) bool,
	do func() (before, after any, err error)) error {
	rows, err := audit.Find(ctx, js)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, _, err = do()
		return err
	}
	if err != nil {
		return err
	}
	begun, err := rows.Begin(ctx, row)
	if err != nil {
		return fmt.Errorf("nothing was done, because NATS does not take its row of the audit: %w", err)
	}
	before, after, failed := do()
	row.Before, row.After = audit.Value(before), audit.Value(after)
	if failed != nil {
		row.Outcome, row.After = audit.Failed, audit.Value(failed.Error())
		if errors.As(failed, new(mistake)) || refused(failed) {
			row.Outcome = audit.Nothing
		}
	}
	if err := rows.End(ctx, begun, row); err != nil && failed == nil {
		return fmt.Errorf("it was done, and the audit has only that it was begun: %w", err)
	}
	return failed
}

// mistake is an error of the command line: nothing was tried.
type mistake struct{ error }

func (m mistake) Unwrap() error { return m.error }
