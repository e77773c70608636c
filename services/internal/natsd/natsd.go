// Package natsd runs nats-server inside this process: the broker of the
// single binary, and, through natstest, of every test.
//
// A nats-server keeps the first write error of a stream for as long as it
// runs: a disk that was full once, or open files that ran out once, would end
// publishing until somebody restarts it. Server therefore watches the health
// that nats-server reports of its streams, and replaces the nats-server by a
// new one over the same folder as soon as the folder can be written to again.
// Connections made with InProcess, and those to the port, are lost and come
// back by themselves, as they do when a NATS elsewhere restarts.
package natsd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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
	// Listening, if set, is called with the URL, without credentials, each time a
	// nats-server has started: a restart keeps the port unless another
	// program took it meanwhile. If it fails for want of room on a disk or of
	// open files it is called again each second; Start returns other errors.
	Listening func(url string) error
}

// unlimited is how much the streams may reserve of the disk: nats-server
// would refuse to declare a stream, or to change it, that could grow beyond 75 %
// of what is free at its start. How much fits is for the disk to say, and
// for Room to foretell.
const unlimited = 1 << 60

// Server is a nats-server that recovers from trouble with its disk. Shutdown
// stops it. Safe for concurrent use.
type Server struct {
	// Fixed after Start.
	cfg     Config
	log     *slog.Logger
	stop    chan struct{} // closed by Shutdown
	stopped chan struct{} // closed when keep has returned
	stirred chan struct{} // has room for one; an error was logged. Never closed

	unknown unknown // of keep's goroutine

	ending sync.Once             // of Shutdown
	failed atomic.Bool           // nats-server has logged that it could not write, and was not found healthy since
	fault  atomic.Pointer[error] // why messages are not stored; nil while they are. Written by Start, then by keep

	mu          sync.Mutex
	server      *server.Server // guarded by mu; nil while none runs
	port        int            // guarded by mu; 0: none, or not known yet
	url         string         // guarded by mu
	announced   bool           // guarded by mu; Listening was called with url
	unannounced bool           // guarded by mu; Listening failed, and that was logged
}

// Start runs a nats-server and returns when it accepts connections, or when
// it cannot run yet because the folder's disk is full or this process has
// no file left to open: Fault says so then, and the server starts when that
// has passed. What does not pass by itself is an error.
func Start(cfg Config, log *slog.Logger) (*Server, error) {
	if cfg.Port != 0 && (cfg.User == "" || cfg.Password == "") {
		return nil,
			errors.New("embedded NATS: a port needs a user and a password, or every process on this machine " +
				"could publish")
	}
	s := &Server{
		cfg: cfg, log: log, port: max(0, cfg.Port),
		stop: make(chan struct{}), stopped: make(chan struct{}), stirred: make(chan struct{}, 1),
		unknown: unknown{},
	}
	_ = os.Remove(probeFile(cfg.Dir))
	if err := s.launch(); err != nil {
		if !Passes(writable(cfg.Dir)) {
			return nil, fmt.Errorf("embedded NATS in %s: %w", filepath.Clean(cfg.Dir), err)
		}
		s.ail(err)
	} else if err := room(cfg.Dir); err != nil {
		s.ail(err)
	}
	if err := s.announce(); err != nil && !Passes(err) {
		s.halt()
		return nil, err
	}
	go s.keep() // ends with Shutdown, which waits for it
	return s, nil
}

// launch starts a nats-server and waits until it accepts connections.
func (s *Server) launch() error {
	s.mu.Lock()
	port := s.port
	s.mu.Unlock()
	opts := &server.Options{
		ServerName:        "herald",
		Host:              "127.0.0.1",
		Port:              port,
		DontListen:        s.cfg.Port == 0,
		Username:          s.cfg.User,
		Password:          s.cfg.Password,
		JetStream:         true,
		JetStreamMaxStore: unlimited,
		StoreDir:          s.cfg.Dir,
		SyncInterval:      s.cfg.SyncInterval,
		SyncAlways:        s.cfg.SyncInterval == 0,
		NoSigs:            true, // signals are main's business
		MaxPayload:        1 << 20,
	}
	if port == 0 && s.cfg.Port != 0 {
		opts.Port = -1
	}
	n, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	fatal := make(chan string, 1) // never closed; holds the first reason
	n.SetLoggerV2(serverLog{s.log.With("part", "nats-server"), fatal, s}, false, false, false)
	n.Start() // returns once it runs; its goroutines end with Shutdown
	if err := awaitReady(n, fatal, s.stop); err != nil {
		n.Shutdown()
		n.WaitForShutdown()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.url, s.announced = n, n.ClientURL(), s.cfg.Listening == nil
	if addr, ok := n.Addr().(*net.TCPAddr); ok {
		s.port = addr.Port
	}
	return nil
}

// startTimeout is for a stream that has to be recovered from a slow disk.
const startTimeout = 30 * time.Second

// awaitReady waits until n accepts connections and JetStream works. The error
// is nats-server's own reason, if it has one.
func awaitReady(n *server.Server, fatal <-chan string, stop <-chan struct{}) error {
	for begin := time.Now(); ; {
		ready := n.ReadyForConnections(50 * time.Millisecond)
		select {
		case reason := <-fatal:
			return errors.New(reason)
		case <-stop:
			return errors.New("stopping")
		default:
		}
		switch {
		case ready && !n.JetStreamEnabled():
			return errors.New("JetStream could not be enabled; the log above says why")
		case ready:
			return nil
		case time.Since(begin) > startTimeout:
			return fmt.Errorf("not ready within %s; is the folder on a slow or full disk?", startTimeout)
		}
	}
}

// InProcess is the option that connects without a socket, as the user that
// guards the port. The connection survives a restart of the nats-server by
// reconnecting.
func (s *Server) InProcess() nats.Option {
	return func(o *nats.Options) error {
		o.InProcessServer = s
		if s.cfg.User != "" {
			o.User, o.Password = s.cfg.User, s.cfg.Password
		}
		return nil
	}
}

// InProcessConn is called by nats.go for each attempt to connect.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	n := s.server
	s.mu.Unlock()
	if n == nil {
		return nil, errors.New("the embedded NATS does not run at the moment")
	}
	return n.InProcessConn()
}

// URL is where the server listens, without credentials.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Port is the loopback port it listens on; 0 if it does not.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Fault is why messages cannot be stored at the moment; nil while they can.
func (s *Server) Fault() error {
	if err := s.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Hindrance is what keeps anything from being written to the folder at this
// moment, and may pass by itself: a full disk, or no file left to open. It
// tries.
func (s *Server) Hindrance() error {
	if err := writable(s.cfg.Dir); Passes(err) {
		return err
	}
	return nil
}

// Shutdown stops the server and waits until it has.
func (s *Server) Shutdown() {
	s.ending.Do(func() { close(s.stop) })
	<-s.stopped
	s.halt()
}

// halt stops the nats-server, if one runs, and waits until it has stopped.
func (s *Server) halt() {
	s.mu.Lock()
	n := s.server
	s.server = nil
	s.mu.Unlock()
	if n != nil {
		n.Shutdown()
		n.WaitForShutdown()
	}
}

// serverLog passes the server's own log lines on: its notices are of interest
// to whoever looks for them, its warnings and errors to everybody.
type serverLog struct {
	log    *slog.Logger
	fatal  chan<- string
	server *Server // is told of every error
}

func (l serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l serverLog) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }

func (l serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	if strings.Contains(text, "write error") || strings.Contains(text, "failed to store") { // stream.go, filestore.go
		l.server.failed.Store(true)
	}
	select {
	case l.server.stirred <- struct{}{}:
	default:
	}
}

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
