package users

// Role says what a user of the console may do. Each role includes those before it.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // reads
	Operator Role = "operator" // closes connections and publishes
	Admin    Role = "admin"    // changes keys, apps, settings and users, and reads the audit
)

// Roles are all roles, from the least to the most.
var Roles = []Role{Viewer, Operator, Admin}

// ParseRole reads a role.
func ParseRole(text string) (Role, error) {
	for _, r := range Roles {
		if text == string(r) {
			return r, nil
		}
	}
	return "", invalid("%.40q is no role; want viewer, operator or admin", text)
}

// Includes reports whether who has role r may do what role needed may do.
func (r Role) Includes(needed Role) bool {
	rank := func(role Role) int {
		for i, known := range Roles {
			if role == known {
				return i + 1
			}
		}
		return 0
	}
	return rank(needed) > 0 && rank(r) >= rank(needed)
}
