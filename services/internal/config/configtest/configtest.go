// Package configtest gives a test an environment of its own.
package configtest

import "github.com/herald-push/herald/services/internal/config"

// Vars is an environment of exactly these variables; nil: it is empty. The map
// may be changed between two look-ups.
func Vars(vars map[string]string) config.Env {
	return func(name string) (string, bool) {
		v, set := vars[name]
		return v, set
	}
}

// Env is an environment of these variables, each followed by its value.
func Env(pairs ...string) config.Env {
	vars := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	return Vars(vars)
}
