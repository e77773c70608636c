package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	osservice "github.com/kardianos/service"
)

// The unit that herald service install writes is confined as that of the packages.
func TestServiceIsConfined(t *testing.T) {
	b, err := os.ReadFile("../../packaging/linux/herald.service")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "[Service]\n")
	section, _, _ = strings.Cut(section, "[Install]")
	lines := 0
	for line := range strings.Lines(section) {
		key, _, setting := strings.Cut(line, "=")
		switch key {
		case "User", "Group", "WorkingDirectory", "Environment", "EnvironmentFile", "ExecStart", "Restart":
			continue // theirs differ
		case "ProtectHome": // the binary may lie there
			line = "ProtectHome=read-only\n"
		}
		if !setting || strings.HasPrefix(line, "#") {
			continue
		}
		if lines++; !strings.Contains(systemdUnit, line) {
			t.Errorf("herald.service.tmpl lacks %s", line)
		}
	}
	if lines < 20 {
		t.Errorf("%d lines were compared; was the unit read at all?", lines)
	}
}

// What the service manager is told: this folder, the settings that were given,
// variables, and no secret.
func TestServiceDescription(t *testing.T) {
	folder := t.TempDir()
	for name, c := range map[string]struct {
		args  []string
		env   map[string]string
		fault string
		want  string // of the arguments
		lines string // of the environment in a unit
	}{
		"plain": {args: []string{"install"}, want: "service run -folder " + folder + " -data /var/lib/herald"},
		"settings": {args: []string{"install", "-listen", ":80", "-user", "www", "-data", "/srv/100%"},
			env:   map[string]string{"HERALD_LOG_LEVEL": "debug"},
			want:  "service run -folder " + folder + " -data /srv/100%% -listen :80 -user www -data /srv/100%%",
			lines: `Environment="HERALD_LOG_LEVEL=debug"` + "\n"},
		"settings before the verb": {args: []string{"-listen", ":80", "install"}, want: "service run -folder " +
			folder + " -data /var/lib/herald -listen :80"},
		"a user of that name": {args: []string{"install", "-user", "install"}, want: "service run -folder " + folder +
			" -data /var/lib/herald -user install"},
		"another folder": {args: []string{"install", "-data", "/srv/herald"},
			fault: "data: the service's own user may write to /var/lib/herald alone"},
		"a wrong setting": {args: []string{"install", "-tls-cert", "/nonexistent/cert.pem"}, fault: "tls-key"},
		"a secret": {args: []string{"install"},
			env: map[string]string{"HERALD_API_KEY": "hk_5kq2u7w3x9z4m6n8p1r0t2v4"},
			fault: "HERALD_API_KEY: its value would stand where others can read it: write it into a file, " +
				"and set HERALD_API_KEY_FILE"},
		"a secret as a flag": {args: []string{"install", "-nats", "nats://user:password@localhost"},
			fault: "HERALD_NATS_URL: its value would stand"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &call{args: append(c.args, "-folder", folder), env: configtest.Vars(c.env),
				std: streams{out: io.Discard, err: io.Discard}}
			var got osservice.Config
			got.Option = osservice.KeyValue{}
			s, start := newSystemService(in)
			words, err := config.Parse("herald service", in.args, in.env, nil, io.Discard, start.settings)
			if err == nil && len(words) == 1 {
				err = s.describe(&got)
			}
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "password@") {
					t.Fatalf("got %v, want %s", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := c.want + " -folder " + folder
			if args := strings.Join(got.Arguments, " "); args != want {
				t.Errorf("got  %s\nwant %s", args, want)
			}
			unit, _ := got.Option["SystemdScript"].(string)
			if !strings.Contains(unit, "\n"+c.lines+"Restart=") || strings.Contains(unit, "@") &&
				!strings.Contains(unit, "@system-service") {
				t.Errorf("the unit lacks %s:\n%s", c.lines, unit)
			}
			if got.UserName != s.user {
				t.Errorf("got the user %q", got.UserName)
			}
		})
	}
}

// A service whose user does not get to the binary or the folder is not installed.
func TestServiceIsReachable(t *testing.T) {
	private, err := os.MkdirTemp(".", "private-") // not below /tmp
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(private) })
	inside := filepath.Join(private, "inside")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	// As a path that begins here: what lies above is this machine's.
	if got := closedToOthers(inside); got != filepath.Clean(private)+" is closed to others" {
		t.Errorf("got %q", got)
	}
	for _, c := range []struct{ binary, folder, want string }{
		{"/bin/sh", "/etc", ""},
		{"/bin/sh", "/nowhere", "folder: the service's own user may not enter /nowhere: "},
		{"/bin/sh", "/tmp", "may not enter /tmp: it has a /tmp of its own"},
		{"/nowhere/herald", "/etc", "may not run /nowhere/herald: "},
	} {
		err := reachable(c.binary, c.folder)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s in %s: got %v, want %q", c.binary, c.folder, err, c.want)
		}
	}
}
