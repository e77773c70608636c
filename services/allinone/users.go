package main

import (
	"context"
	"fmt"
	"time"

	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/config"
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

var userVerbs = verbs{command: "users", of: "user", all: []string{"add", "list", "role", "reset", "remove"},
	example: "anna", refused: users.Refused}

// run does what the first word says.
func (u *userList) run(ctx context.Context, words []string) error {
	role, err := users.ParseRole(u.role)
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	return manage(ctx, &u.manager, userVerbs, words, users.Open, func(ctx context.Context, store *users.Store, verb,
		name string) (before, after any, err error) {
		if verb == "list" {
			return nil, nil, u.list(ctx, store)
		}
		return u.do(ctx, store, verb, name, role)
	})
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
	if was, err := store.Get(ctx, name); err == nil { // a damaged one is not found, and can be removed
		before = roleOf{was.Role}
	}
	if err := store.Remove(ctx, name); err != nil {
		return before, nil, err
	}
	fmt.Fprintln(u.out, "removed")
	return before, nil, nil
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
