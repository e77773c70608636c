package config_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
)

var update = flag.Bool("update", false, "write the golden help anew")

// level is a setting of a foreign type whose error quotes the value, as the
// errors of such types do.
type level string

func (l *level) UnmarshalText(b []byte) error {
	if s := string(b); s != "low" && s != "high" {
		return errors.New("no level: " + s)
	}
	*l = level(b)
	return nil
}
func (l *level) MarshalText() ([]byte, error) { return []byte(*l), nil }

// all has one setting of each kind.
type all struct {
	Name    string
	Verbose bool
	Workers int
	Bytes   int64
	Drain   time.Duration
	Origins []string
	Level   level
	Token   string
}

func (a *all) settings() []config.Setting {
	return []config.Setting{
		{Flag: "name", Env: "T_NAME", Key: "name", Help: "how it is called", Into: &a.Name},
		{Flag: "verbose", Env: "T_VERBOSE", Key: "verbose", Help: "say more", Into: &a.Verbose},
		{Flag: "workers", Env: "T_WORKERS", Key: "workers", Help: "how many at a time", Into: &a.Workers},
		{Flag: "bytes", Env: "T_BYTES", Key: "bytes", Help: "largest body, in bytes", Into: &a.Bytes},
		{Flag: "drain", Env: "T_DRAIN", Key: "drain", Help: "how long clients may take to leave", Into: &a.Drain},
		{Flag: "origins", Env: "T_ORIGINS", Key: "origins", Help: "pages that may connect, comma-separated",
			Into: &a.Origins},
		{Flag: "level", Env: "T_LEVEL", Key: "level", Help: "low or high", Into: &a.Level},
		{Env: "T_TOKEN", Help: "shared secret", Secret: true, Into: &a.Token},
	}
}

func defaults() *all {
	return &all{Name: "herald", Workers: 4, Bytes: 8 << 20, Drain: 24 * time.Hour, Origins: []string{"a", "b"},
		Level: "low", Token: "default-token"}
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Flags stand where people type them; what begins with a dash and is no flag
// is refused, since it may be a misspelt one.
func TestFlagsStandAnywhere(t *testing.T) {
	for _, c := range []struct {
		args    []string
		channel string
		loud    bool
		words   string
		fault   string
	}{
		{args: []string{"hi", "-channel", "x"}, channel: "x", words: "hi"},
		{args: []string{"hi", "--channel=x", "you"}, channel: "x", words: "hi you"},
		{args: []string{"-channel", "a", "hi", "-channel=b"}, channel: "b", words: "hi"},
		{args: []string{"hi", "-loud", "you"}, loud: true, words: "hi you"},
		{args: []string{"hi", "-loud=false", "you"}, words: "hi you"},
		{args: []string{"-channel", "x", "hi"}, channel: "x", words: "hi"},
		{args: []string{"-channel", "-x", "hi"}, channel: "-x", words: "hi"},
		{args: []string{"--", "hi", "-channel", "x"}, words: "hi -channel x"},
		{args: []string{"hi", "--", "-loud"}, words: "hi -loud"},
		{args: []string{"minus", "-5", "-.5", "-"}, words: "minus -5 -.5 -"},
		{args: []string{"hi", "-chanel", "x"},
			fault: "not defined: -chanel; send -h lists the flags, and after -- nothing is one"},
		{args: []string{"hi", "-channel"}, fault: "needs an argument: -channel"},
		{args: []string{"-one", "hi", "-two"}, fault: "-two"},
	} {
		channel, loud := "", false
		words, err := config.Parse("send", c.args, configtest.Vars(nil), nil, io.Discard,
			[]config.Setting{{Flag: "channel", Into: &channel}, {Flag: "loud", Into: &loud}})
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%q: got %v, want %q", c.args, err, c.fault)
			}
			continue
		}
		if got := strings.Join(words, " "); err != nil || channel != c.channel || loud != c.loud || got != c.words {
			t.Errorf("%q: got channel %q, loud %v, words %q, %v; want %q, %v, %q", c.args, channel, loud, got,
				err, c.channel, c.loud, c.words)
		}
	}
}

func TestPrecedence(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		file map[string]string
		want string
	}{
		{"default", nil, nil, nil, "herald"},
		{"file", nil, nil, map[string]string{"name": "file"}, "file"},
		{"environment over file", nil, map[string]string{"T_NAME": "env"}, map[string]string{"name": "file"}, "env"},
		{"flag over all", []string{"-name", "flag"}, map[string]string{"T_NAME": "env"},
			map[string]string{"name": "file"}, "flag"},
		{"the last flag counts", []string{"-name=one", "-name=two"}, nil, nil, "two"},
		{"an empty flag counts", []string{"-name="}, map[string]string{"T_NAME": "env"}, nil, ""},
		{"an empty variable counts", nil, map[string]string{"T_NAME": ""}, map[string]string{"name": "file"}, ""},
		{"an empty value in the file counts", nil, nil, map[string]string{"name": ""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := defaults()
			if _, err := config.Parse("prog", c.args, configtest.Vars(c.env), c.file, nil, a.settings()); err != nil {
				t.Fatal(err)
			}
			if a.Name != c.want {
				t.Errorf("got %q, want %q", a.Name, c.want)
			}
		})
	}
}

func TestAllKinds(t *testing.T) {
	want := all{Name: "x", Verbose: true, Workers: -3, Bytes: 1 << 40, Drain: 90 * time.Second,
		Origins: []string{"c", "d"}, Level: "high", Token: "s3cret"}
	values := map[string]string{"name": "x", "verbose": "true", "workers": "-3", "bytes": "1099511627776",
		"drain": "1m30s", "origins": " c ,, d ", "level": "high"}
	env, args := map[string]string{}, []string{}
	for k, v := range values {
		env["T_"+strings.ToUpper(k)] = v
		args = append(args, "-"+k+"="+v)
	}
	token := map[string]string{"T_TOKEN": "s3cret"}
	env["T_TOKEN"] = "s3cret"
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		file map[string]string
	}{{"flags", args, token, nil}, {"environment", nil, env, nil}, {"file", nil, token, values}} {
		t.Run(c.name, func(t *testing.T) {
			a := defaults()
			if _, err := config.Parse("prog", c.args, configtest.Vars(c.env), c.file, nil, a.settings()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(a.Origins, want.Origins) {
				t.Errorf("list: got %q, want %q", a.Origins, want.Origins)
			}
			got := *a
			got.Origins, want.Origins = nil, nil
			if got.Name != want.Name || got.Verbose != want.Verbose || got.Workers != want.Workers ||
				got.Bytes != want.Bytes ||
				got.Drain != want.Drain || got.Level != want.Level || got.Token != want.Token {
				t.Errorf("got %+v, want %+v", got, want)
			}
			want.Origins = []string{"c", "d"}
		})
	}
}

func TestBoolFlagNeedsNoValueAndArgumentsRemain(t *testing.T) {
	a := defaults()
	rest, err := config.Parse("prog", []string{"-verbose", "serve", "other"}, configtest.Vars(nil), nil, nil,
		a.settings())
	if err != nil || !a.Verbose || !slices.Equal(rest, []string{"serve", "other"}) {
		t.Errorf("got verbose %v, rest %q, error %v", a.Verbose, rest, err)
	}
}

// Empty means empty: closed, where the default is open. What cannot be empty
// keeps what it has.
func TestEmptyVariables(t *testing.T) {
	empty := map[string]string{"T_NAME": "", "T_ORIGINS": "", "T_TOKEN": "", "T_VERBOSE": "", "T_WORKERS": "",
		"T_BYTES": "", "T_DRAIN": "", "T_LEVEL": ""}
	a := defaults()
	if _, err := config.Parse("prog", nil, configtest.Vars(empty), map[string]string{"workers": "7", "level": "high",
		"origins": "c"}, nil, a.settings()); err != nil {
		t.Fatal(err)
	}
	if a.Name != "" || len(a.Origins) != 0 || a.Token != "" {
		t.Errorf("texts and lists: got %q, %q, %q; want none", a.Name, a.Origins, a.Token)
	}
	if a.Verbose || a.Workers != 7 || a.Bytes != 8<<20 || a.Drain != 24*time.Hour || a.Level != "high" {
		t.Errorf("what cannot be empty: got %+v, want the file's values and the defaults", a)
	}
	b := defaults()
	if _, err := config.Parse("prog", []string{"-name=", "-origins="}, configtest.Vars(nil), nil, nil,
		b.settings()); err != nil || b.Name != a.Name || len(b.Origins) != 0 {
		t.Errorf("flags: got %q, %q, %v; want the same", b.Name, b.Origins, err)
	}
}

func TestSecretFilePath(t *testing.T) {
	path := file(t, "\ufeff  s3cret\r\n")
	var secret, from string
	settings := []config.Setting{{Env: "T_TOKEN", Secret: true, Into: &secret, Path: &from}}
	if _, err := config.Parse("prog", nil, configtest.Vars(map[string]string{"T_TOKEN_FILE": path}), nil, nil,
		settings); err != nil || secret != "s3cret" || from != path {
		t.Errorf("got %q from %q, %v", secret, from, err)
	}
	from = ""
	if _, err := config.Parse("prog", nil, configtest.Vars(map[string]string{"T_TOKEN": "x"}), nil, nil,
		settings); err != nil || from != "" {
		t.Errorf("got %q from %q, %v; want no file", secret, from, err)
	}
}

func TestListIsEmptiedByComma(t *testing.T) {
	a := defaults()
	if _, err := config.Parse("prog", nil, configtest.Vars(map[string]string{"T_ORIGINS": ","}), nil, nil,
		a.settings()); err != nil || len(a.Origins) != 0 {
		t.Errorf("got %q, %v; want none", a.Origins, err)
	}
}

func TestSecretFile(t *testing.T) {
	const secret = "from-the-file"
	empty, good := file(t, " \n"), file(t, secret+"\n")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		name, want, fault string
		env               map[string]string
	}{
		{name: "file", env: map[string]string{"T_TOKEN_FILE": good}, want: secret},
		{name: "both", env: map[string]string{"T_TOKEN_FILE": good, "T_TOKEN": "direct"},
			fault: "T_TOKEN and T_TOKEN_FILE are both set; set one"},
		{name: "missing", env: map[string]string{"T_TOKEN_FILE": missing}, fault: "T_TOKEN_FILE: open " + missing},
		{name: "empty", env: map[string]string{"T_TOKEN_FILE": empty}, fault: "T_TOKEN_FILE: " + empty + " is empty"},
		{name: "not for settings that are no secret", env: map[string]string{"T_NAME_FILE": good},
			want: "default-token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := defaults()
			_, err := config.Parse("prog", nil, configtest.Vars(c.env), nil, nil, a.settings())
			if c.fault == "" {
				if err != nil || a.Token != c.want || a.Name != "herald" {
					t.Errorf("got %q, %q, %v; want %q", a.Token, a.Name, err, c.want)
				}
			} else if err == nil || !strings.HasPrefix(err.Error(), c.fault) {
				t.Errorf("got error %v, want %q", err, c.fault)
			}
		})
	}
}

func TestFaultsAreReportedAtOnce(t *testing.T) {
	a := defaults()
	_, err := config.Parse("prog", []string{"-workers=many", "-nonsense=1"}, configtest.Vars(map[string]string{
		"T_BYTES": "1e6", "T_DRAIN": "10", "T_VERBOSE": "perhaps", "T_TOKEN": "x", "T_TOKEN_FILE": "y",
	}), map[string]string{"level": "middle"}, nil, a.settings())
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		"flag provided but not defined: -nonsense; prog -h lists the flags, and after -- nothing is one",
		`T_VERBOSE: "perhaps": want true or false`,
		`-workers: "many": want a whole number`,
		`T_BYTES: "1e6": want a whole number`,
		`T_DRAIN: "10": want a duration such as 10s, 5m, 24h or 30d`,
		`level: "middle": no level: middle`,
		"T_TOKEN and T_TOKEN_FILE are both set; set one",
	}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Every kind of setting may be a secret (the NATS URL has a flag), and no
// fault of any may show it.
func TestSecretsAreNeverInErrors(t *testing.T) {
	const secret = "hunter2-hunter2"
	var s struct {
		b bool
		i int
		l int64
		d time.Duration
		t level
	}
	for _, into := range []any{&s.b, &s.i, &s.l, &s.d, &s.t} {
		setting := []config.Setting{{Flag: "nats", Env: "T_SECRET", Key: "secret", Secret: true, Into: into}}
		for name, parse := range map[string]func() ([]string, error){
			"flag": func() ([]string, error) {
				return config.Parse("prog", []string{"-nats=" + secret}, configtest.Vars(nil), nil, nil, setting)
			},
			"environment": func() ([]string, error) {
				return config.Parse("prog", nil, configtest.Vars(map[string]string{"T_SECRET": secret}), nil,
					nil, setting)
			},
			"file of its own": func() ([]string, error) {
				return config.Parse("prog", nil, configtest.Vars(map[string]string{"T_SECRET_FILE": file(t, secret)}),
					nil, nil, setting)
			},
			"file": func() ([]string, error) {
				return config.Parse("prog", nil, configtest.Vars(nil), map[string]string{"secret": secret},
					nil, setting)
			},
			"three dashes": func() ([]string, error) {
				return config.Parse("prog", []string{"---nats=" + secret}, configtest.Vars(nil), nil, nil, setting)
			},
			"another flag": func() ([]string, error) {
				return config.Parse("prog", []string{"-nat=" + secret}, configtest.Vars(nil), nil, nil, setting)
			},
		} {
			_, err := parse()
			if err == nil {
				t.Errorf("%T by %s: no error", into, name)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%T by %s shows the secret: %v", into, name, err)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"-h", "--help"} {
		var out bytes.Buffer
		a := defaults()
		_, err := config.Parse("prog", []string{arg, "-workers=many"},
			configtest.Vars(map[string]string{"T_WORKERS": "9"}), nil, &out, a.settings())
		if !errors.Is(err, config.ErrHelp) {
			t.Fatalf("%s: got %v", arg, err)
		}
		const golden = "testdata/help.txt"
		if *update {
			if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", arg, out.String(), want)
		}
		if strings.Contains(out.String(), a.Token) {
			t.Error("the help shows a secret")
		}
	}
}

func TestDefaultTexts(t *testing.T) {
	for want, d := range map[string]time.Duration{"0s": 0, "24h": 24 * time.Hour, "1h30m": 90 * time.Minute,
		"10m": 10 * time.Minute, "90ms": 90 * time.Millisecond, "1m1s": 61 * time.Second} {
		if got := (config.Setting{Into: &d}).Default(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
