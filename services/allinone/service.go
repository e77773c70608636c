package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/herald-push/herald/services/allinone/internal/desktop"
	"github.com/herald-push/herald/services/internal/config"
	osservice "github.com/kardianos/service"
)

var serviceCommand = command{
	name: "service", args: "install|uninstall|start|stop|status",
	does: "run as a service of Windows, systemd or launchd",
	about: `
Installs Herald, as it lies here, as a service that starts with the system: of Windows, of systemd, or of macOS.
install takes all settings of herald serve and keeps them. Data is in the system's folder for services, unless
-data names one. On Linux the service has a user of its own, which systemd makes; -user names another, who then
must own the data folder. A secret is given by a file: HERALD_API_KEY_FILE=… herald service install.`,
	examples: []string{
		"herald service install -listen :80",
		"herald service start",
		"herald service status                # exits with 0 if it runs",
		"herald service uninstall             # data stays",
	},
	start: func(c *call) task {
		_, t := newSystemService(c)
		return t
	},
}

// newSystemService is the command with its settings, which the caller reads.
func newSystemService(c *call) (*systemService, task) {
	s := &systemService{cfg: defaultConfig(), call: c}
	s.cfg.Data = desktop.ServiceFolder()
	t := task{settings: []config.Setting{
		{Flag: "user", Help: "install: the user who runs the service", Into: &s.user},
		{Flag: "folder", Help: "install: where a favicon.ico and config/socket_config.json are, " +
			"and from where relative paths count; here", Into: &s.folder},
	}}
	// As describe says it: before the config file is looked for.
	if len(c.args) > 2 && c.args[0] == "run" && c.args[1] == "-folder" {
		s.lost = os.Chdir(c.args[2])
	}
	s.notes = s.cfg.read(c, &t)
	s.table = t.settings
	t.run = s.run
	return s, t
}

// systemService is Herald in the hands of the system's service manager.
type systemService struct {
	cfg          Config
	table        []config.Setting
	notes        []string
	call         *call
	user, folder string
	lost         error // the folder of run is gone
}

const serviceName = "herald"

// unitFile is where install writes the unit of systemd.
const unitFile = "/etc/systemd/system/herald.service"

// systemdUnit is the unit that install writes, in the service library's template
// language. Its hardening is that of packaging/linux/herald.service.
//
//go:embed herald.service.tmpl
var systemdUnit string

// managers are the service managers that install writes a definition for.
var managers = []string{"windows-service", "linux-systemd", "darwin-launchd"}

func (s *systemService) run(ctx context.Context, words []string) error {
	verbs := []string{"install", "uninstall", "start", "stop", "status", "run"}
	if len(words) != 1 || !slices.Contains(verbs, words[0]) {
		return fmt.Errorf("want install, uninstall, start, stop or status; herald service -h explains them: %q", words)
	}
	verb := words[0]
	if verb != "run" && !slices.Contains(managers, osservice.Platform()) {
		return errors.New("no service manager was found here: Herald can be a service of Windows, systemd and launchd")
	}
	if verb != "install" && verb != "run" && len(s.call.args) > 1 {
		return fmt.Errorf("%s takes no settings: they are those of herald service install", verb)
	}
	if verb == "run" {
		if err := errors.Join(s.lost, s.cfg.complete()); err != nil {
			return err
		}
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		return runService(&serviceProgram{systemService: s, ctx: ctx, stop: stop})
	}
	c := &osservice.Config{Name: serviceName, DisplayName: "Herald", Description: "Herald, real-time push",
		Option: osservice.KeyValue{}}
	if verb == "install" {
		if err := s.describe(c); err != nil {
			return err
		}
		binary, err := os.Executable()
		if err == nil && runtime.GOOS == "linux" && s.user == "" {
			err = reachable(binary, s.folder)
		}
		if err != nil {
			return err
		}
	}
	manager, err := osservice.New(&serviceProgram{}, c)
	if err != nil {
		return err
	}
	return s.control(manager, verb)
}

// control does what a person asked for.
func (s *systemService) control(manager osservice.Service, verb string) error {
	status, err := manager.Status()
	installed := !errors.Is(err, osservice.ErrNotInstalled)
	if runtime.GOOS == "linux" { // where systemctl is silent about a unit in an offline root
		_, gone := os.Stat(unitFile)
		installed = gone == nil
	}
	out := s.call.std.out
	switch {
	case verb == "install" && installed:
		return errors.New("the service is installed already; herald service uninstall takes it away")
	case verb != "install" && !installed:
		return errors.New("the service is not installed; herald service install installs it")
	case verb == "status" && status == osservice.StatusRunning:
		_, err = fmt.Fprintln(out, "the service runs")
		return err
	case verb == "status" && status == osservice.StatusStopped:
		return errors.New("the service is stopped; herald service start starts it")
	case verb == "status":
		return fmt.Errorf("the state of the service is unknown: %w", err)
	}
	if verb == "uninstall" && status == osservice.StatusRunning {
		if err := manager.Stop(); err != nil {
			return fmt.Errorf("stop the service: %w", mayNot(err))
		}
	}
	act := map[string]func() error{"install": manager.Install, "uninstall": manager.Uninstall, "start": manager.Start,
		"stop": manager.Stop}[verb]
	if err := act(); err != nil {
		if verb == "install" && runtime.GOOS == "linux" {
			_ = os.Remove(unitFile) // the library writes it first; what failed leaves nothing
		}
		return fmt.Errorf("%s the service: %w", verb, mayNot(err))
	}
	done := map[string]string{
		"install":   "installed; herald service start starts it, and so does the next start of the system",
		"uninstall": "uninstalled; its data is where it was",
		"start":     "started",
		"stop":      "stopped",
	}[verb]
	_, err = fmt.Fprintln(out, "the service is "+done)
	return err
}

// mayNot says what to do about a service manager that refuses.
func mayNot(err error) error {
	if errors.Is(err, fs.ErrPermission) || strings.Contains(strings.ToLower(err.Error()), "access is denied") {
		return fmt.Errorf("%w; services are the administrator's (sudo, or a terminal as administrator)", err)
	}
	return err
}

// describe says what the service manager is to run: this binary, in this folder,
// with the settings that were given.
func (s *systemService) describe(c *osservice.Config) (err error) {
	if err := s.cfg.complete(); err != nil { // a service that cannot start is not installed
		return err
	}
	if s.folder == "" {
		s.folder = "."
	}
	if s.folder, err = filepath.Abs(s.folder); err != nil {
		return err
	}
	verb := slices.Index(s.call.args, "install") // a later one is a value
	given := slices.Delete(slices.Clone(s.call.args), verb, verb+1)
	c.Arguments = append([]string{"service", "run", "-folder", s.folder, "-data", s.cfg.Data}, given...)
	c.UserName = s.user
	if c.EnvVars, err = s.variables(); err != nil {
		return err
	}
	switch runtime.GOOS {
	case "linux":
		for _, unit := range []string{"/lib/systemd/system/herald.service", "/usr/lib/systemd/system/herald.service"} {
			if _, err := os.Stat(unit); err == nil {
				return fmt.Errorf("%s is there: the package brings the service; "+
					"systemctl enable --now herald starts it", unit)
			}
		}
		if s.user == "" && s.cfg.Data != desktop.ServiceFolder() {
			return fmt.Errorf("data: the service's own user may write to %s alone; name the owner of %s with -user",
				desktop.ServiceFolder(), s.cfg.Data)
		}
		c.Option["SystemdScript"] = strings.Replace(systemdUnit, "@environment@\n", environmentLines(c.EnvVars), 1)
		for i, arg := range c.Arguments { // the library escapes quotes
			c.Arguments[i] = unitEscapes.Replace(arg)
		}
		c.Option["Restart"] = "on-failure"
	case "windows":
		if s.user == "" {
			c.UserName = `NT AUTHORITY\LocalService`
		}
		c.Option["OnFailure"] = "restart"
	case "darwin":
		c.Option["RunAtLoad"] = true
	}
	return nil
}

// variables are those of Herald that are set here: the service gets them, too. A
// secret is refused, since everybody may read what a service manager is told.
func (s *systemService) variables() (map[string]string, error) {
	found := map[string]string{}
	for _, setting := range s.table {
		_, set := s.call.env(setting.Env)
		switch {
		case setting.Secret && (set || setting.From == config.FromFlag):
			return nil, fmt.Errorf("%[1]s: its value would stand where others can read it: "+
				"write it into a file, and set %[1]s_FILE to that", setting.Env)
		case setting.Env == "":
			continue
		}
		for _, name := range []string{setting.Env, setting.Env + "_FILE"} {
			if value, set := s.call.env(name); set && value != "" {
				found[name] = value
			}
		}
	}
	return found, nil
}

// unitEscapes are for text between quotes in a unit, systemd.service(5).
var unitEscapes = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`)

// environmentLines are the lines of a unit that set variables.
func environmentLines(variables map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := strings.NewReplacer("%", "%%", `\`, `\\`, `"`, `\"`).Replace(variables[name])
		fmt.Fprintf(&b, "Environment=\"%s=%s\"\n", name, value)
	}
	return b.String()
}

// serviceProgram is Herald as the service manager starts and stops it.
type serviceProgram struct {
	*systemService
	ctx  context.Context // ends when the process is told to stop
	stop context.CancelFunc
	done chan struct{} // closed when nothing of Herald runs any more
	err  error         // why it ended; set before done is closed
}

// start begins to serve, and returns at once.
func (p *serviceProgram) start() {
	p.done = make(chan struct{})
	go func() { // runService waits for done
		defer close(p.done)
		p.err = p.serve()
	}()
}

func (p *serviceProgram) serve() error {
	if runtime.GOOS != "linux" { // whose journal keeps what a service writes
		closeLog, err := keepOutput(p.call, p.cfg.Data)
		if err != nil {
			return err
		}
		defer closeLog()
	}
	err := serve(p.ctx, p.cfg, p.table, p.notes, p.call)
	if err != nil {
		fmt.Fprintln(p.call.std.err, "herald:", err)
	}
	return err
}

// Start and Stop are for managers that the library serves itself; runService
// replaces them.
func (p *serviceProgram) Start(osservice.Service) error { return nil }
func (p *serviceProgram) Stop(osservice.Service) error  { return nil }
