package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/logger"
)

// Config is the single binary's: its own settings and those of the services
// in it.
type Config struct {
	Listen     string
	ConfigFile string
	Data       string // folder of NATS, the log and what was generated
	Sync       syncInterval
	Headless   bool         // the desktop shows neither tray nor browser
	NATS       natsx.Config // URL empty: embedded
	Log        telemetry.LogConfig
	Ops        service.OpsConfig
	Ingest     ingest.Config
	Gateway    gateway.Config
	Logger     logger.Config
	Admin      admin.Config
}

// syncInterval is how often stored messages are fsynced: a duration, or
// "always" (0), before each acknowledgement.
type syncInterval time.Duration

func (s *syncInterval) UnmarshalText(b []byte) error {
	if string(b) == "always" {
		*s = 0
		return nil
	}
	d, err := time.ParseDuration(string(b))
	if err != nil || d <= 0 {
		return errors.New("want always, or a duration such as 1s")
	}
	*s = syncInterval(d)
	return nil
}

func (s *syncInterval) MarshalText() ([]byte, error) {
	if *s == 0 {
		return []byte("always"), nil
	}
	return []byte(time.Duration(*s).String()), nil
}

func defaultConfig() Config {
	c := Config{
		Listen:  ":5000", // the predecessor's port
		Data:    "data",
		Sync:    0, // always
		Log:     telemetry.LogConfig{Level: "info", Format: "text"},
		Ops:     service.NewOpsConfig("127.0.0.1:5010"),
		Ingest:  ingest.DefaultConfig(),
		Gateway: gateway.DefaultConfig(),
		Logger:  logger.DefaultConfig(),
		Admin:   admin.DefaultConfig(),
	}
	c.Logger.DB = "" // herald.db in the data folder
	return c
}

// defaultFile is read when it is there and no other is named.
const defaultFile = "config/socket_config.json"

// settings is one table: the binary's own, then what the services have that
// is not there yet. A setting that two services share stands once; share
// copies it.
func (c *Config) settings() []config.Setting {
	own := []config.Setting{
		{Flag: "listen", Env: "HERALD_LISTEN", Help: "address to listen on", Kind: config.Address, NotEmpty: true,
			Into: &c.Listen},
		{Flag: "config", Env: "HERALD_CONFIG", Help: "JSON file with settings; " + defaultFile + " if it is there",
			Into: &c.ConfigFile},
		{Flag: "data", Env: "HERALD_DATA", Help: "folder of the embedded NATS, the log and generated secrets",
			NotEmpty: true, Into: &c.Data},
		{Flag: "sync", Env: "HERALD_SYNC",
			Help: "when the embedded NATS forces messages to disk: always, before they are acknowledged, or " +
				"how often: a duration, the most that a power cut can take", Into: &c.Sync},
		{Flag: "nats", Env: "HERALD_NATS_URL", Help: "NATS servers, comma-separated, in place of the embedded one",
			Secret: true, Into: &c.NATS.URL},
	}
	own = append(own,
		config.Setting{Flag: "db", Env: "HERALD_DB", Help: "SQLite file of the log; herald.db in the data folder",
			Into: &c.Logger.DB},
		config.Setting{Flag: "drain", Env: "HERALD_DRAIN",
			Help: "window over which requests finish and clients are told to leave when Herald stops",
			Into: &c.Ingest.Drain},
	)
	own = append(own, config.Setting{Flag: "headless", Env: "HERALD_HEADLESS",
		Help: "started from a desktop, show no tray icon and open no browser", Into: &c.Headless})
	own = append(own, c.Log.Settings()...)
	own = append(own, c.Ops.Settings()...)
	for _, s := range slices.Concat(c.NATS.SecuritySettings(), c.Ingest.Settings(), c.Gateway.Settings(),
		c.Logger.Settings(), c.Admin.Settings()) {
		if !slices.ContainsFunc(own, func(o config.Setting) bool { return o.Flag == s.Flag && o.Env == s.Env }) {
			own = append(own, s)
		}
	}
	for i := range own {
		if !own[i].Secret {
			own[i].Key = own[i].Flag // the file knows each setting by its flag
		}
	}
	return own
}

// share copies what several services have in common, and takes their own
// listeners away: here everything is on one port.
func (c *Config) share() {
	c.Gateway.TrustedProxies = c.Ingest.TrustedProxies
	c.Gateway.MaxPerIP = c.Ingest.MaxPerIP
	c.Admin.TrustedProxies = c.Ingest.TrustedProxies
	c.Gateway.Hosts, c.Admin.Hosts = nil, nil // one listener, ingest's list
	c.Gateway.Drain = c.Ingest.Drain
	c.Ingest.Listen, c.Gateway.Listen, c.Logger.Listen, c.Admin.Listen = "", "", "", ""
	if c.Logger.DB == "" {
		c.Logger.DB = filepath.Join(c.Data, "herald.db")
	}
}

// read reads the config file that one call of a command names, for its task.
// notes are warnings for the log.
func (c *Config) read(in *call, t *task) (notes []string) {
	t.settings = append(c.settings(), t.settings...)
	t.file, notes, t.fileErr = readFile(configPath(in.args, in.env), c.settings())
	return notes
}

// complete derives what follows from the settings, after they are read, and
// validates all of it.
func (c *Config) complete() error {
	c.share()
	err := errors.Join(c.checkNATS(), c.Ingest.Validate(), c.Gateway.Validate(), c.Logger.Validate(),
		c.Admin.Validate())
	// Only after Ingest was checked: a fault of the key is reported once.
	c.Logger.APIKey, c.Logger.APIKeyFile = c.Ingest.APIKey, c.Ingest.APIKeyFile
	return err
}

// checkNATS refuses certificates for the embedded NATS: who sets them means
// one elsewhere, and would not notice that it is not used.
func (c *Config) checkNATS() error {
	if c.NATS.URL == "" && c.NATS != (natsx.Config{}) {
		return errors.New("nats-ca, nats-cert, nats-key and nats-creds are for a NATS elsewhere; name it with nats")
	}
	return c.NATS.Validate()
}

// configPath finds the file's name before the settings proper are parsed,
// since the file is part of that.
func configPath(args []string, env config.Env) string {
	for i, arg := range args {
		flag, value, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		switch {
		case len(arg) == 0 || arg[0] != '-' || flag != "config":
		case inline:
			return value
		case i+1 < len(args):
			return args[i+1]
		}
	}
	return env.Get("HERALD_CONFIG")
}

// readFile reads the JSON file: the four keys of the predecessor, and any
// setting by the name of its flag. Values may be strings, numbers, true or
// false, or arrays of strings. The result is by setting name. A key that
// nobody knows is worth a note; a wrong value is an error that names its key.
func readFile(path string, settings []config.Setting) (values map[string]string, notes []string, err error) {
	named := path != ""
	if !named {
		path = defaultFile
	}
	b, err := config.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("config file: %w", err)
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, nil, fmt.Errorf("config file %s: it is not a JSON object: %w", path, err)
	}
	values = map[string]string{}
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("config file %s: %s: %s", path, key, fmt.Sprintf(format, args...)))
	}
	secure := false
	for key, v := range members {
		text, ok := asText(v)
		if !ok {
			fault(key, "want a string, a number, true or false, or an array of strings")
			continue
		}
		switch {
		case key == "http":
			if text != "http" && text != "https" {
				fault(key, "%q is neither http nor https", text)
			}
			secure = text == "https"
		case key == "socketport":
			if port, err := strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
				fault(key, "%q is not a port; want a number from 1 to 65535, default 5000", text)
				continue
			}
			values["listen"] = ":" + text
		case key == "certpath":
			values["tls-cert"] = text
		case key == "keypath":
			values["tls-key"] = text
		case slices.ContainsFunc(settings, func(s config.Setting) bool { return s.Key == key && key != "" }):
			values[key] = text
		default:
			note := fmt.Sprintf("config file %s: nobody knows the key %s; ", path, key)
			if near := config.Nearest(key, keysOf(settings)); near != "" {
				note += fmt.Sprintf("did you mean %s? ", near)
			}
			notes = append(notes, note+"herald -h lists the settings")
		}
	}
	if !secure && members["http"] != nil {
		delete(values, "tls-cert") // the predecessor's file names them even for http
		delete(values, "tls-key")
	}
	if secure {
		for _, need := range []struct{ key, name, what string }{{"certpath", "tls-cert", "certificate"},
			{"keypath", "tls-key", "private key"}} {
			if values[need.name] == "" {
				fault(need.key, "https needs the path of the %s file", need.what)
			}
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	slices.Sort(notes)
	return values, notes, errors.Join(faults...)
}

// keysOf lists the keys that the file may have: the predecessor's, and those of settings.
func keysOf(settings []config.Setting) []string {
	keys := []string{"http", "socketport", "certpath", "keypath"}
	for _, s := range settings {
		if s.Key != "" {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	case []any:
		items := make([]string, len(v))
		for i := range v {
			s, ok := v[i].(string)
			if !ok {
				return "", false
			}
			items[i] = s
		}
		return strings.Join(items, ","), true
	}
	return "", false
}
