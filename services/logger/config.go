package logger

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
)

// Config is how the logger runs. DefaultConfig is a laptop's.
type Config struct {
	// Listen is the HTTP address; empty inside the single binary, which serves
	// the logger's routes on its own port.
	Listen string
	// DB is the SQLite file. It and its folder are made where they are missing.
	DB string
	// MaxAge and MaxBytes bound what the log keeps; 0 sets no limit.
	MaxAge   time.Duration
	MaxBytes int64
	// APIKey is one more valid key, named "env", for all channels. Empty: only
	// the keys of the bucket count.
	APIKey string
	// APIKeyFile is the file that APIKey came from, and that is read again when it
	// changes; empty: none.
	APIKeyFile string
}

// DefaultConfig is what holds where nothing is set.
func DefaultConfig() Config {
	return Config{
		Listen: ":8082",
		DB:     filepath.Join("data", "herald.db"),
		MaxAge: 30 * 24 * time.Hour,
	}
}

// Settings declares each setting of the logger.
func (c *Config) Settings() []config.Setting {
	return []config.Setting{
		{Flag: "listen", Env: "HERALD_LISTEN", Help: "address to listen on", Kind: config.Address, NotEmpty: true,
			Into: &c.Listen},
		{Flag: "db", Env: "HERALD_DB", Help: "SQLite file of the log; it and its folder are made if they are missing",
			Into: &c.DB},
		{Flag: "log-max-age", Env: "HERALD_LOG_MAX_AGE", Help: "how long the log keeps a message; 0: for ever",
			Into: &c.MaxAge},
		{Flag: "log-max-bytes", Env: "HERALD_LOG_MAX_BYTES",
			Help: "how many bytes the log may hold, the oldest messages go first; 0: no limit", Kind: config.Bytes,
			Into: &c.MaxBytes},
		{Env: "HERALD_API_KEY",
			Help: "one more valid API key, named env, for all channels; at least 16 random characters", Secret: true,
			Path: &c.APIKeyFile, Into: &c.APIKey},
	}
}

// minLogBytes is the least that a limit may leave: below it the log would
// hold little more than its own tables.
const minLogBytes = 1 << 20

// Validate reports every fault, one sentence a line.
func (c *Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if c.APIKey != "" {
		if err := auth.CheckSecret("HERALD_API_KEY", c.APIKey); err != nil {
			faults = append(faults, err)
		}
	}
	fault(c.DB == "", "db: want the path of a file, such as data/herald.db")
	fault(c.MaxAge < 0 || c.MaxAge > 0 && c.MaxAge < time.Minute,
		"log-max-age: %s; want at least 1m, or 0 to keep messages for ever", c.MaxAge)
	fault(c.MaxBytes < 0 || c.MaxBytes > 0 && c.MaxBytes < minLogBytes,
		"log-max-bytes: %d; want at least %d (1 MiB), or 0 for no limit", c.MaxBytes, minLogBytes)
	return errors.Join(faults...)
}
