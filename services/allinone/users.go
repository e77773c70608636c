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
	about: "Manages who may log in to the console of the Herald that runs on this machine, or, with -nats, of another\n" +
		"deployment. A change counts within seconds. A password is shown once; only its digest is kept. Whoever has lost\n" +
		"the password gets in again with reset.",
	examples: []string{
		"herald users add anna -role operator   # viewer: reads; operator: also closes connections and publishes; admin: " +
			"everything",
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
		rows, err := audit.Find(ctx, js)
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		action, before, after, err := u.do(ctx, store, verb, name, role)
		if err != nil || action == "" || rows == nil {
			return err
		}
		row := audit.Row{Time: time.Now().UTC().Truncate(time.Millisecond), User: "(command line)", Action: action,
			Target: name, Before: audit.Value(before), After: audit.Value(after)}
		if err := rows.Add(ctx, row); err != nil {
			return fmt.Errorf("it was done, but is not in the audit: %w", err)
		}
		return nil
	})
}

// do does it, and says what the audit has to know.
func (u *userList) do(ctx context.Context, store *users.Store, verb, name string, role users.Role) (action string,
	before, after any, err error) {
	type roleOf struct {
		Role users.Role `json:"role"`
	}
	switch verb {
	case "add":
		password, err := store.Add(ctx, name, role, time.Now())
		if err != nil {
			return "", nil, nil, err
		}
		fmt.Fprintf(u.out, "user:     %s\npassword: %s\nKeep it: it is shown this once. The role is %s.\n", name,
			password, role)
		return "user.add", nil, roleOf{role}, nil
	case "role":
		was, err := store.SetRole(ctx, name, role)
		if err != nil {
			return "", nil, nil, err
		}
		fmt.Fprintf(u.out, "%s was %s and is %s\n", was.Name, was.Role, role)
		return "user.role", roleOf{was.Role}, roleOf{role}, nil
	case "reset":
		password, err := store.Reset(ctx, name)
		if err != nil {
			return "", nil, nil, err
		}
		fmt.Fprintf(u.out, "user:     %s\npassword: %s\nKeep it: it is shown this once. The sessions of this user have "+
			"ended.\n", name, password)
		return "user.reset", nil, nil, nil
	case "remove":
		if err := store.Remove(ctx, name); err != nil {
			return "", nil, nil, err
		}
		fmt.Fprintln(u.out, "removed")
		return "user.remove", nil, nil, nil
	}
	list, err := store.List(ctx)
	if err != nil {
		return "", nil, nil, err
	}
	w := u.table("NAME\tROLE\tBY\tCREATED\tLAST LOGIN")
	for _, user := range list {
		if user.Damaged {
			fmt.Fprintf(w, "%s\t(damaged)\t-\t-\t-\n", user.Name)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", user.Name, user.Role, user.Via, day(user.Created), day(user.LastLogin))
	}
	return "", nil, nil, w.Flush()
}
