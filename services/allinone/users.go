package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/nats-io/nats.go/jetstream"
)

var usersCommand = command{
	name: "users", args: "add|list|role|reset|remove [NAME]", does: "manage users of the console",
	about: `
Manages who may log in to the console of the Herald that runs on this machine, or, with -nats, of another
deployment. A change counts within seconds. A password is shown once; only its digest is kept. Whoever has lost
the password gets in again with reset.`,
	examples: []string{
		"herald users add anna -role operator   # viewer: reads; operator: also closes connections and " +
			"publishes; admin: everything",
		"herald users list",
		"herald users role anna -role admin",
		"herald users reset admin               # a new password; its sessions end",
		"herald users remove anna",
	},
	start: func(c *call) task {
		u := &userList{manager: newManager(c), role: string(users.Viewer)}
		return task{
			settings: u.settings(
				config.Setting{Flag: "role", Help: "add, role: what the user may do: viewer, operator or admin",
					NotEmpty: true, Into: &u.role},
			),
			run: u.run,
		}
	},
}

// userList is what herald users works on, and the settings of its verbs.
type userList struct {
	manager
	role string
}

var userVerbs = verbs{command: "users", all: []string{"add", "list", "role", "reset", "remove"}, example: "anna"}

// run does what the first word says, and adds a row to the audit where there is one.
func (u *userList) run(ctx context.Context, words []string) error {
	role, err := users.ParseRole(u.role)
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	var js jetstream.JetStream
	open := func(ctx context.Context, on jetstream.JetStream) (*users.Store, error) {
		js = on
		return users.Open(ctx, js)
	}
	return manage(ctx, &u.manager, userVerbs, words, open, func(ctx context.Context, store *users.Store, verb,
		name string) error {
		if verb == "list" {
			return u.list(ctx, store)
		}
		rows, err := audit.Find(ctx, js)
		if errors.Is(err, jetstream.ErrStreamNotFound) { // no console has run with an audit
			_, _, err = u.do(ctx, store, verb, name, role)
			return err
		}
		if err != nil {
			return err
		}
		return u.audited(ctx, rows, store, verb, name, role)
	})
}

// audited writes down what is about to be done, does it, and writes down what came of it.
func (u *userList) audited(ctx context.Context, rows *audit.Log, store *users.Store, verb, name string,
	role users.Role) error {
	row := audit.Row{Time: time.Now().UTC().Truncate(time.Millisecond), User: "(command line)", Action: "user." + verb,
		Target: name, Before: audit.Value(nil), After: audit.Value(nil)}
	if users.CheckName(name) != nil { // a damaged one can be removed
		row.Target = fmt.Sprintf("%.64q", name)
	}
	begun, err := rows.Begin(ctx, row)
	if err != nil {
		return fmt.Errorf("nothing was done, because NATS does not take its row of the audit: %w", err)
	}
	before, after, failed := u.do(ctx, store, verb, name, role)
	row.Before, row.After = audit.Value(before), audit.Value(after)
	switch {
	case failed == nil:
	case users.Refused(failed):
		row.Outcome, row.After = audit.Nothing, audit.Value(failed.Error())
	default:
		row.Outcome, row.After = audit.Failed, audit.Value(failed.Error())
	}
	if err := rows.End(ctx, begun, row); err != nil && failed == nil {
		return fmt.Errorf("it was done, and the audit has only that it was begun: %w", err)
	}
	return failed
}

// roleOf is a user as the audit has it.
type roleOf struct {
	Role users.Role `json:"role"`
}

// do does it, and says what the audit has to know.
func (u *userList) do(ctx context.Context, store *users.Store, verb, name string, role users.Role) (before, after any,
	err error) {
	switch verb {
	case "add":
		password, err := store.Add(ctx, name, role, time.Now())
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(u.out, "user:     %s\npassword: %s\nKeep it: it is shown this once. The role is %s.\n", name,
			password, role)
		return nil, roleOf{role}, nil
	case "role":
		was, err := store.SetRole(ctx, name, role)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(u.out, "%s was %s and is %s\n", was.Name, was.Role, role)
		return roleOf{was.Role}, roleOf{role}, nil
	case "reset":
		password, err := store.Reset(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(u.out, "user:     %s\npassword: %s\nKeep it: it is shown this once. The sessions of "+
			"this user have ended.\n", name, password)
		return nil, nil, nil
	}
	if err := store.Remove(ctx, name); err != nil {
		return nil, nil, err
	}
	fmt.Fprintln(u.out, "removed")
	return nil, nil, nil
}

// list prints all users.
func (u *userList) list(ctx context.Context, store *users.Store) error {
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	w := u.table("NAME\tROLE\tBY\tCREATED\tLAST LOGIN")
	for _, user := range list {
		if user.Damaged {
			fmt.Fprintf(w, "%q\t(damaged)\t-\t-\t-\n", user.Name)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", user.Name, user.Role, user.Via, day(user.Created), day(user.LastLogin))
	}
	return w.Flush()
}
