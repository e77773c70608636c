package service

import (
	"log/slog"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// OpsConfig is the operators' port: metrics, the reasons of readiness and
// profiles are not for everybody who reaches the service.
type OpsConfig struct {
	Listen string // empty: none
	// Default is what Listen is where nobody chose: it gives way to another port
	// where it is taken, so that several processes run on one machine.
	Default string
}

// NewOpsConfig is the operators' port on this machine only.
func NewOpsConfig(listen string) OpsConfig { return OpsConfig{Listen: listen, Default: listen} }

// Settings declares the setting that every service has.
func (c *OpsConfig) Settings() []config.Setting {
	return []config.Setting{
		{Flag: "ops-listen", Env: "HERALD_OPS_LISTEN",
			Help: "address of the operators' port: /metrics, /readyz with its reasons, and, for this machine only, " +
				"/debug/pprof; empty: none", Kind: config.Address, Into: &c.Listen},
	}
}

// opsSockets is how many sockets the operators' port accepts, out of what is
// kept back from everybody else.
const opsSockets = 32

// Server binds the operators' port; nil: there is none. The caller runs it.
func (c *OpsConfig) Server(ops *telemetry.Ops, log *slog.Logger) (*httpx.Server, error) {
	if c.Listen == "" {
		return nil, nil
	}
	router := httpx.NewRouter(log)
	ops.MountOps(router)
	cfg := httpx.ServerConfig{Listen: c.Listen, MaxSockets: opsSockets}
	s, err := httpx.NewServer(cfg, router, log)
	if httpx.PortTaken(err) && c.Listen == c.Default {
		cfg.Listen = "127.0.0.1:0"
		if s, err = httpx.NewServer(cfg, router, log); err == nil {
			log.Debug("the port for operators is taken, so it is another one", "taken", c.Listen, "addr",
				s.Addr().String())
		}
	}
	return s, err
}
