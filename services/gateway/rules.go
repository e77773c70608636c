package gateway

import (
	"time"

	"github.com/herald-push/herald/services/internal/auth"
)

// rules are what an administrator may change while the gateway runs. They are
// replaced as a whole, and never changed.
type rules struct {
	cfg       Config
	origins   allowedOrigins // pages of other hosts that may connect
	anonymous auth.Principal // what anybody may follow
}

// anybody is the principal of a client without a token.
var anybody = &auth.Principal{}

// settingsPatience bounds how long clients wait for settings that were changed before
// this gateway began.
const settingsPatience = 5 * time.Second

// newRules makes the rules of a valid configuration.
func newRules(cfg Config) *rules {
	origins, _ := parseAllowed(cfg.AllowedOrigins) // Validate has read them
	return &rules{cfg: cfg, origins: origins, anonymous: auth.Principal{Channels: cfg.AnonymousChannels}}
}

// apply makes settings act that were changed while the gateway runs: on who connects
// or subscribes from now on. Who is connected stays so.
func (s *Service) apply(cfg Config) {
	s.rules.Store(newRules(cfg))
	s.ips.limit(cfg.MaxPerIP, cfg.LimitDryRun)
	s.shares.unlimited.Store(cfg.PerAddress() == 0)
	s.sockets.LimitAddresses(cfg.PerAddress())
}
