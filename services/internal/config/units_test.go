package config_test

import (
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
)

func TestSize(t *testing.T) {
	for v, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "64KiB": 64 << 10, "64 MiB": 64 << 20, "1.5GiB": 3 << 29, "2tib": 2 << 40,
		"8Mi": 8 << 20, "1kB": 1000, "10MB": 1e7, "7B": 7,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := config.Size(v); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", v, got, err, want)
		}
	}
	for _, v := range []string{"", "64M", "1g", "-1", "1e6", "MiB", "1.5", "1.5B", "8EiB", "9223372036854775808",
		"16777216TiB", "1 2", "0x10", "1KiBps"} {
		if got, err := config.Size(v); err == nil {
			t.Errorf("%q: got %d, want an error", v, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 1: "1", 256: "256", 1 << 10: "1KiB", 65536: "64KiB", 8 << 20: "8MiB",
		1 << 30: "1GiB", 3 << 29: "1536MiB", 1000: "1000", math.MaxInt64: "9223372036854775807"} {
		got := config.ShowSize(n)
		if back, err := config.Size(got); got != want || err != nil || back != n {
			t.Errorf("%d: shown as %s, want %s; read back as %d, %v", n, got, want, back, err)
		}
	}
}

func TestDurationWithDays(t *testing.T) {
	for v, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1d12h": 36 * time.Hour,
		"0.5d": 12 * time.Hour, "10s": 10 * time.Second, "1h1d": 25 * time.Hour, "-1d": -24 * time.Hour, "0": 0} {
		if got, err := config.Duration(v); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", v, got, err, want)
		}
	}
	for _, v := range []string{"", "d", "1", "1day", "30 d", "1d1", "200000d", "."} {
		if got, err := config.Duration(v); err == nil {
			t.Errorf("%q: got %s, want an error", v, got)
		}
	}
}

func TestListenAddress(t *testing.T) {
	parse := func(v string) (listen string, err error) {
		_, err = config.Parse("x", []string{"-listen", v}, configtest.Vars(nil), nil, io.Discard,
			[]config.Setting{{Flag: "listen", Kind: config.Address, Into: &listen}})
		return listen, err
	}
	for v, want := range map[string]string{"5001": ":5001", ":5001": ":5001", "0": ":0", "127.0.0.1:80": "127.0.0.1:80",
		"[::1]:80": "[::1]:80", "localhost:80": "localhost:80", " :80\t": ":80", "": ""} {
		if got, err := parse(v); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", v, got, err, want)
		}
	}
	for v, want := range map[string]string{"localhost": "want an address such as", "127.0.0.1": "want an address",
		"::1": "want an address", "65536": "not a port", ":http": "not a port", "a:70000": "not a port",
		"http://x:80": "want an address", ":": "not a port"} {
		if got, err := parse(v); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.HasPrefix(err.Error(), "-listen: ") {
			t.Errorf("%q: got %q, %v, want %q", v, got, err, want)
		}
	}
}

func TestTime(t *testing.T) {
	for v, want := range map[string]string{
		"2026-11-28": "2026-11-28T00:00:00Z", "2026-11-28T01:00:00+01:00": "2026-11-28T00:00:00Z",
		"2026-11-28t00:00:00z": "2026-11-28T00:00:00Z",
		"9999-12-31":           "9999-12-31T00:00:00Z", "0001-01-01": "0001-01-01T00:00:00Z",
		"2028-02-29": "2028-02-29T00:00:00Z",
	} {
		if got, err := config.Time(v); err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: got %s, %v, want %s", v, got, err, want)
		}
	}
	for _, v := range []string{"", "2026-11-31", "2027-02-29", "2026-11", "28.11.2026", "yesterday", "1700000000",
		"2026-11-28T10:00", " 2026-11-28"} {
		if got, err := config.Time(v); err == nil || !strings.Contains(err.Error(), "a day such as") {
			t.Errorf("%q: got %s, %v, want an error that says what is wanted", v, got, err)
		}
	}
}

func TestDurationThatIsTooLong(t *testing.T) {
	for _, v := range []string{"400000d", "200000000h", "1d106751d", "-400000d"} {
		if got, err := config.Duration(v); err == nil || !strings.Contains(err.Error(), "longest") {
			t.Errorf("%q: got %s, %v, want an error that has the longest one", v, got, err)
		}
	}
}

// A text that cannot be empty keeps its default where a variable is empty, and is
// refused where somebody empties it on purpose.
func TestNotEmpty(t *testing.T) {
	for _, kind := range []config.Kind{config.Plain, config.Address} {
		listen := ":5000"
		settings := []config.Setting{{Flag: "listen", Env: "T_LISTEN", Key: "listen", Kind: kind, NotEmpty: true,
			Into: &listen}}
		if _, err := config.Parse("x", nil, configtest.Vars(map[string]string{"T_LISTEN": ""}), nil, io.Discard,
			settings); err != nil || listen != ":5000" {
			t.Errorf("variable: got %q, %v, want the default", listen, err)
		}
		for from, err := range map[string]error{
			"-listen": func() error {
				_, err := config.Parse("x", []string{"-listen="}, configtest.Vars(nil), nil, io.Discard, settings)
				return err
			}(),
			"listen": func() error {
				_, err := config.Parse("x", nil, configtest.Vars(nil), map[string]string{"listen": ""},
					io.Discard, settings)
				return err
			}(),
		} {
			if err == nil || err.Error() != from+`: "": it cannot be empty` || listen != ":5000" {
				t.Errorf("%s: got %q, %v, want it refused", from, listen, err)
			}
		}
	}
}

// A limit of any size that is taken can be added to without an overflow.
func TestNumbersThatAreTooLarge(t *testing.T) {
	for value, fault := range map[string]string{
		"9007199254740991": "", "9007199254740992": "whole number up to", "9223372036854775807": "whole number up to",
		"9223372036854775808": "whole number up to", "-9223372036854775808": "whole number up to",
	} {
		var n int
		var n64 int64
		for _, into := range []any{&n, &n64} {
			if err := config.Assign(config.Setting{Flag: "n", Into: into}, value); fault == "" && err != nil ||
				fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
				t.Errorf("%s into %T: got %v, want %q", value, into, err, fault)
			}
		}
		var b int64
		if err := config.Assign(config.Setting{Flag: "b", Kind: config.Bytes, Into: &b},
			value); (err == nil) != (fault == "") {
			t.Errorf("%s bytes: got %v", value, err)
		}
	}
}
