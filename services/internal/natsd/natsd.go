// Package natsd runs nats-server inside this process: the broker of the
// single binary, and, through natstest, of every test.
package natsd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Config is how the embedded server runs.
type Config struct {
	// Dir is where JetStream stores; it is made if it is missing.
	Dir string
	// Port on 127.0.0.1; -1 is any free one. 0 listens nowhere: only this
	// process can connect.
	Port int
	// User and Password guard the port; required when there is one.
	User, Password string
	// SyncInterval is how often stored messages are fsynced; 0 means before
	// each acknowledgement.
	SyncInterval time.Duration
}

// Server is a running nats-server. Shutdown stops it.
type Server struct {
	server         *server.Server
	user, password string
}

// Start runs the server and returns when it accepts connections.
func Start(cfg Config, log *slog.Logger) (*Server, error) {
	if cfg.Port != 0 && (cfg.User == "" || cfg.Password == "") {
		return nil, errors.New("embedded NATS: a port needs a user and a password, or every process on this machine could publish")
	}
	opts := &server.Options{
		ServerName:   "herald",
		Host:         "127.0.0.1",
		Port:         cfg.Port,
		DontListen:   cfg.Port == 0,
		Username:     cfg.User,
		Password:     cfg.Password,
		JetStream:    true,
		StoreDir:     cfg.Dir,
		SyncInterval: cfg.SyncInterval,
		SyncAlways:   cfg.SyncInterval == 0,
		NoSigs:       true, // signals are main's business
		MaxPayload:   1 << 20,
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS in %s: %w", cfg.Dir, err)
	}
	fatal := make(chan string, 1) // never closed; holds the first reason
	s.SetLoggerV2(serverLog{log.With("part", "nats-server"), fatal}, false, false, false)
	s.Start() // returns once it runs; its goroutines end with Shutdown
	err = awaitReady(s, fatal)
	if err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("embedded NATS in %s: %w", filepath.Clean(cfg.Dir), err)
	}
	return &Server{server: s, user: cfg.User, password: cfg.Password}, nil
}

// startTimeout is for a stream that has to be recovered from a slow disk.
const startTimeout = 30 * time.Second

func awaitReady(s *server.Server, fatal <-chan string) error {
	for begin := time.Now(); ; {
		ready := s.ReadyForConnections(50 * time.Millisecond)
		select {
		case reason := <-fatal:
			return errors.New(reason)
		default:
		}
		switch {
		case ready && !s.JetStreamEnabled():
			return errors.New("JetStream could not be enabled; the log above says why")
		case ready:
			return nil
		case time.Since(begin) > startTimeout:
			return fmt.Errorf("not ready within %s; is the folder on a slow or full disk?", startTimeout)
		}
	}
}

// InProcess is the option that connects without a socket, as the user that
// guards the port.
func (s *Server) InProcess() nats.Option {
	return func(o *nats.Options) error {
		o.InProcessServer = s.server
		if s.user != "" {
			o.User, o.Password = s.user, s.password
		}
		return nil
	}
}

// URL is where the server listens, without credentials.
func (s *Server) URL() string { return s.server.ClientURL() }

// Port is the loopback port it listens on; 0 if it does not.
func (s *Server) Port() int {
	if addr, ok := s.server.Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 0
}

// Shutdown stops the server and waits until it has.
func (s *Server) Shutdown() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// serverLog passes the server's own log lines on: its notices are of interest
// to whoever looks for them, its warnings and errors to everybody.
type serverLog struct {
	log   *slog.Logger
	fatal chan<- string
}

func (l serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }

func (l serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return // meant for configuration files; ours is in memory only
	}
	l.log.Warn(fmt.Sprintf(format, v...))
}

// Fatalf is where nats-server itself would exit, and goes on when it cannot.
func (l serverLog) Fatalf(format string, v ...any) {
	reason := fmt.Sprintf(format, v...)
	l.log.Error(reason)
	select {
	case l.fatal <- reason:
	default:
	}
}
