// Package config binds a service's settings to flags, environment variables
// and a JSON file. One table per service declares each setting; Parse fills
// them in, reports every fault at once, and never prints a secret.
//
// Precedence: flag, then environment, then file, then default. Empty means
// empty, wherever the value comes from: a variable that is set to nothing
// empties a text or a list, as an empty flag does, so that
// HERALD_ANONYMOUS_CHANNELS= opens no channel. Numbers, durations, switches and
// texts that are NotEmpty cannot be empty: an empty variable of these counts as
// not set.
package config

import (
	"cmp"
	"encoding"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Setting declares one setting. At least one of Flag and Env is set.
type Setting struct {
	Flag string // without dash; "" for secrets, which have no place in a process list
	Env  string // HERALD_…
	Key  string // name in the JSON file; "" where the file has no say
	Help string // one sentence with the unit
	// Secret settings also come from the file named by Env+"_FILE", and their
	// value is never printed.
	Secret bool
	// Path receives the path of that file, so that the service can read it again
	// when it changes; nil: it does not.
	Path *string
	// Kind says how a *string, *int or *int64 is read and shown.
	Kind Kind
	// Choices are all values that a *string may have, for whoever shows the setting;
	// nil: it may have others. Its owner refuses others.
	Choices []string
	// NotEmpty says that an empty *string is no value: like a number, it then keeps
	// what it has where a variable is empty, and an empty flag or entry is an error.
	NotEmpty bool
	// Into receives the value: *string, *bool, *int, *int64, *float64, *time.Duration,
	// *[]string (comma-separated) or an encoding.TextUnmarshaler. What it
	// holds before Parse is the default.
	Into any

	// Initial and From are Parse's: the default, as text, and where the value that
	// holds comes from.
	Initial string
	From    Source
}

// Source is where the value of a setting comes from.
type Source string

// Sources, the later before the earlier. FromConsole is not Parse's: package settings
// has values that are stored while services run.
const (
	FromDefault Source = "default"
	FromFile    Source = "file"
	FromEnv     Source = "environment"
	FromConsole Source = "console"
	FromFlag    Source = "flag"
)

// Env looks up an environment variable, as os.LookupEnv does: set tells one that
// is empty from one that is not there.
type Env func(name string) (value string, set bool)

// Get is the variable's value; empty if it is not set.
func (e Env) Get(name string) string {
	v, _ := e(name)
	return v
}

// ErrHelp is returned by Parse after it printed the help that was asked for.
var ErrHelp = flag.ErrHelp

// Parse fills in the settings for program name. file holds the JSON file's
// values by Key and may be nil; args are the command line without the
// program. Flags may stand before, between and behind the other arguments,
// which are returned in their order; after "--" nothing is a flag. The error
// joins every fault, one sentence a line. Parse fills in Initial and From of settings.
func Parse(name string, args []string, env Env, file map[string]string, out io.Writer, settings []Setting) ([]string,
	error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	given := map[string]string{}
	for _, s := range settings {
		if s.Flag == "" {
			continue
		}
		f := s.Flag
		set := func(v string) error { given[f] = v; return nil }
		if _, ok := s.Into.(*bool); ok {
			fs.BoolFunc(f, s.Help, set)
		} else {
			fs.Func(f, s.Help, set)
		}
	}
	words, faults := split(fs, args)
	if len(faults) == 1 && errors.Is(faults[0], flag.ErrHelp) {
		PrintHelp(out, settings)
		return nil, ErrHelp
	}
	for i := range settings {
		s := &settings[i]
		s.Initial = s.Default()
		value, from, err := lookup(*s, given, env, file)
		s.From = s.sourceOf(from)
		if err == nil && from != "" {
			err = Assign(*s, value)
			_, foreign := s.Into.(encoding.TextUnmarshaler)
			switch {
			case err == nil:
			case !s.Secret:
				err = fmt.Errorf("%s: %q: %w", from, value, err)
			case foreign: // its error may quote the value
				err = fmt.Errorf("%s: the value cannot be read", from)
			default:
				err = fmt.Errorf("%s: %w", from, err)
			}
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	return words, errors.Join(faults...)
}

// split hands the flags among args to fs and returns the other arguments. It
// goes on after a fault, to report them all; a request for help is returned
// alone.
func split(fs *flag.FlagSet, args []string) (words []string, faults []error) {
	for len(args) > 0 {
		arg, n := args[0], 1
		switch {
		case arg == "--":
			return append(words, args[1:]...), faults
		case !isFlag(arg):
			words = append(words, arg)
		default:
			name, _, inline := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
			if f := fs.Lookup(name); f != nil && !inline && !isBool(f) {
				n = min(2, len(args)) // the next argument is its value
			}
			err := fs.Parse(args[:n])
			if errors.Is(err, flag.ErrHelp) {
				return nil, []error{err}
			}
			if err != nil {
				// The flag's name only: "---nats=nats://user:password@host" would be quoted whole.
				what, _, _ := strings.Cut(err.Error(), "=")
				faults = append(faults, fmt.Errorf("%s; %s -h lists the flags, and after -- nothing is one", what,
					fs.Name()))
			}
		}
		args = args[n:]
	}
	return words, faults
}

// isFlag says whether an argument is a flag and its name; - and negative
// numbers are text.
func isFlag(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && !strings.ContainsRune("0123456789.", rune(arg[1]))
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// lookup finds the value with the highest precedence; from names its origin
// and is empty where there is none.
func lookup(s Setting, given map[string]string, env Env, file map[string]string) (value, from string, err error) {
	if v, ok := given[s.Flag]; ok && s.Flag != "" {
		return v, "-" + s.Flag, nil
	}
	if s.Env != "" {
		v, set := env(s.Env)
		if s.Secret {
			if path := env.Get(s.Env + "_FILE"); path != "" {
				if v != "" {
					return "", "", fmt.Errorf("%s and %s_FILE are both set; set one", s.Env, s.Env)
				}
				secret, err := ReadSecret(path)
				if err != nil {
					return "", "", fmt.Errorf("%s_FILE: %w", s.Env, err)
				}
				if s.Path != nil {
					*s.Path = path
				}
				return secret, s.Env + "_FILE", nil
			}
		}
		// Where an empty text is no value, Assign refuses it and changes nothing.
		if v != "" || set && Assign(s, "") == nil {
			return v, s.Env, nil
		}
	}
	if v, ok := file[s.Key]; ok && s.Key != "" {
		return v, s.Key, nil
	}
	return "", "", nil
}

// sourceOf is the kind of what lookup found.
func (s Setting) sourceOf(from string) Source {
	switch {
	case from == "":
		return FromDefault
	case s.Flag != "" && from == "-"+s.Flag:
		return FromFlag
	case s.Env != "" && (from == s.Env || from == s.Env+"_FILE"):
		return FromEnv
	default:
		return FromFile
	}
}

// ReadSecret reads a secret's file, without the byte order mark and the white
// space around it. An empty file is an error: it is a secret that never
// arrived, and read as "not set" it would switch off what it was to protect.
func ReadSecret(path string) (string, error) {
	b, err := ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// Assign reads v into the setting's value. The error says what a value looks like, and
// names neither the setting nor v.
func Assign(s Setting, v string) error {
	switch p := s.Into.(type) {
	case *string:
		if v == "" && s.NotEmpty {
			return errors.New("it cannot be empty")
		}
		if s.Kind == Address {
			var err error
			if v, err = listenAddress(v); err != nil {
				return err
			}
		}
		*p = v
	case *bool:
		b, err := strconv.ParseBool(v)
		if err != nil {
			return errors.New("want true or false")
		}
		*p = b
	case *int:
		n, err := whole(s.Kind, v)
		if err != nil || int64(int(n)) != n {
			return cmp.Or(err, errSize)
		}
		*p = int(n)
	case *int64:
		n, err := whole(s.Kind, v)
		if err != nil {
			return err
		}
		*p = n
	case *float64:
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return errors.New("want a number such as 50 or 0.5")
		}
		*p = n
	case *time.Duration:
		d, err := Duration(v)
		if err != nil {
			return err
		}
		*p = d
	case *[]string:
		*p = List(v)
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(v))
	default:
		panic(fmt.Sprintf("config: no way to read a %T", p))
	}
	return nil
}

// List splits a comma-separated list; spaces around the items and empty items go.
func List(v string) []string {
	var items []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// PrintHelp writes one line or two per setting, in alphabetical order.
func PrintHelp(out io.Writer, settings []Setting) {
	fmt.Fprintln(out, "Settings (a flag wins over the environment, that over the config file, that over the default):")
	sorted := append([]Setting(nil), settings...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].name() < sorted[j].name() })
	for _, s := range sorted {
		env := s.Env
		if s.Secret && env != "" {
			env += ", " + s.Env + "_FILE"
		}
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-30s %s", s.name(), env), " "))
		fmt.Fprintf(out, "      %s", s.Help)
		if d := s.Default(); d != "" {
			fmt.Fprintf(out, " (default %s)", d)
		}
		fmt.Fprintln(out)
	}
}

func (s Setting) name() string {
	if s.Flag != "" {
		return "-" + s.Flag
	}
	return s.Env
}

// Default is what the setting holds now, as text; empty for secrets. It is
// the default only before Parse.
func (s Setting) Default() string {
	if s.Secret {
		return ""
	}
	switch p := s.Into.(type) {
	case *string:
		return *p
	case *bool:
		if *p {
			return "true"
		}
		return ""
	case *[]string:
		return strings.Join(*p, ",")
	case *int:
		if s.Kind == Bytes {
			return ShowSize(int64(*p))
		}
		return strconv.Itoa(*p)
	case *int64:
		if s.Kind == Bytes {
			return ShowSize(*p)
		}
		return strconv.FormatInt(*p, 10)
	case *float64:
		return strconv.FormatFloat(*p, 'f', -1, 64)
	case *time.Duration:
		return shortDuration(*p)
	case encoding.TextMarshaler:
		b, err := p.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	}
	return ""
}

// shortDuration writes 24h, not 24h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
