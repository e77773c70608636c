package httpx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/herald-push/herald/services/internal/config"
)

// ServerConfig is how one listener serves.
type ServerConfig struct {
	Listen string // address, ":0" for any free port
	// CertFile and KeyFile make it HTTPS (PEM). They are read again when they
	// change, so a renewed certificate needs no restart.
	CertFile, KeyFile string
	// ReadTimeout bounds the arrival of one whole request. Routes that stream
	// lift it for themselves with http.ResponseController. 0 means 30 s.
	ReadTimeout time.Duration
	// MaxSockets bounds the sockets that are open, below what the limit on open
	// files allows; 0: only that does. MaxPerAddress bounds the connections of
	// one address; 0: no limit. Requests by Proxies count for the address that
	// they name. See Admission.
	MaxSockets, MaxPerAddress int
	Proxies                   Proxies
	// Hosts are the names that requests may be for; empty: any.
	Hosts Hosts
	// Words reports that the handler itself words a refusal of this request:
	// see Refused. Nil: a problem refuses every request.
	Words func(*http.Request) bool
	// IdleTimeout closes a connection that is not used again after an answer. 0
	// means 75 s: longer than proxies keep one that they may use again.
	IdleTimeout time.Duration
	// Grace is how long requests under way may take to finish when the server
	// stops. Hijacked connections are not its business. 0 means 5 s.
	Grace time.Duration
}

// Server serves HTTP on one address, or while that changes on two. NewServer binds
// the first, Run serves. Safe for concurrent use.
type Server struct {
	cfg       ServerConfig
	log       *slog.Logger
	server    *http.Server
	admission *Admission
	failed    chan error // of a listener that broke; one slot, never closed

	mu      sync.Mutex
	first   *Listening          // guarded by mu; that of NewServer, or of Move
	all     map[*Listening]bool // guarded by mu; that are not closed
	running bool                // guarded by mu; Run serves what is bound
	serving sync.WaitGroup      // goroutines that accept
}

// Listening is one address where a Server accepts.
type Listening struct {
	s      *Server
	l      net.Listener
	secure bool
	closed atomic.Bool
}

// maxHeaderBytes bounds the request line and the headers of a request: a token
// of several KiB fits into the URL.
const maxHeaderBytes = 20 << 10

// keepAlive probes idle sockets after two minutes. Go's default of 15 s would
// mean thousands of kernel probes a second at 100,000 idle clients; dead
// clients are found by heartbeats anyway.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 4}

// NewServer binds the listener; nothing is accepted before Run. A taken port
// and unreadable certificate files are reported here, by name.
func NewServer(cfg ServerConfig, h http.Handler, slogger *slog.Logger) (*Server, error) {
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 30 * time.Second
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 75 * time.Second
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Second
	}
	a := newAdmission(cfg.MaxSockets, cfg.MaxPerAddress, cfg.Proxies, slogger)
	s := &Server{
		cfg:       cfg,
		log:       slogger,
		admission: a,
		failed:    make(chan error, 1),
		all:       map[*Listening]bool{},
		server: &http.Server{
			Handler:     guardHosts(a.serve(h, cfg.Words), cfg.Hosts, &cfg.Proxies, slogger),
			ConnContext: a.remember,
			// Slow loris: a header that drips in is cut off.
			ReadHeaderTimeout: min(10*time.Second, cfg.ReadTimeout),
			ReadTimeout:       cfg.ReadTimeout,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       cfg.IdleTimeout,
			HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100}, // net/http's own default is 250
			MaxHeaderBytes:    maxHeaderBytes - 4096,                        // net/http allows 4096 more
			ErrorLog:          log.New(errorLog{slogger}, "", 0),
		},
	}
	l, err := s.Listen(cfg.Listen, cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	s.first = l
	return s, nil
}

// Listen accepts at another address, too, by HTTPS if it has files: see ServerConfig.
// A taken port and unreadable files are errors that name them.
func (s *Server) Listen(address, certFile, keyFile string) (*Listening, error) {
	var secure *tls.Config
	if certFile != "" || keyFile != "" {
		reloader, err := NewCertReloader(certFile, keyFile, s.log)
		if err != nil {
			return nil, err
		}
		secure = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: reloader.GetCertificate,
			NextProtos:     []string{"h2", "http/1.1"},
		}
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	bound, err := lc.Listen(context.Background(), "tcp", address)
	switch {
	case PortTaken(err):
		return nil, fmt.Errorf("listen on %s: %w; another program has the port: stop it, or choose another one",
			address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	l := &Listening{s: s, l: listener{bound, s.admission}, secure: secure != nil}
	if secure != nil {
		l.l = tls.NewListener(l.l, secure)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[l] = true
	if s.running {
		s.accept(l)
	}
	return l, nil
}

// PortTaken reports whether err, of listening, means that something else has the port.
func PortTaken(err error) bool {
	if runtime.GOOS == "windows" { // whose own numbers are none of package syscall's
		var n syscall.Errno
		return errors.As(err, &n) && (n == 10048 || n == 10013) // WSAEADDRINUSE; WSAEACCES: for it alone
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

// accept serves what l accepts until l or the server is closed. mu is held.
func (s *Server) accept(l *Listening) {
	s.serving.Go(func() {
		err := s.server.Serve(l.l)
		if !l.closed.Load() && !errors.Is(err, http.ErrServerClosed) {
			select {
			case s.failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err):
			default: // one is enough to stop
			}
		}
	})
}

// Addr is where it accepts.
func (l *Listening) Addr() net.Addr { return l.l.Addr() }

// Secure reports whether it speaks HTTPS.
func (l *Listening) Secure() bool { return l.secure }

// Close accepts nothing more there, and frees the port. Connections that were accepted
// stay.
func (l *Listening) Close() error {
	l.closed.Store(true)
	l.s.mu.Lock()
	delete(l.s.all, l)
	l.s.mu.Unlock()
	return l.l.Close()
}

// First is where the server listens, first of all.
func (s *Server) First() *Listening {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// Prefer makes l what First returns.
func (s *Server) Prefer(l *Listening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = l
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.First().Addr() }

// Admission counts the server's sockets.
func (s *Server) Admission() *Admission { return s.admission }

// Close frees the listeners of a server that Run was never called on.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for l := range s.all {
		errs = append(errs, l.l.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then stops accepting, lets requests under way
// finish for the grace period, and cuts off the rest. A handler that was cut
// off and does not look at its context may outlive Run.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running = true
	for l := range s.all {
		s.accept(l)
	}
	s.mu.Unlock()
	stop := func() { // nothing is accepted from now on
		s.mu.Lock()
		s.running = false
		s.mu.Unlock()
	}
	select {
	case err := <-s.failed:
		stop()
		_ = s.server.Close() // connections that were accepted before; the listener is gone already
		s.serving.Wait()
		return err
	case <-ctx.Done():
		stop()
	}
	graceful, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer cancel()
	err := s.server.Shutdown(graceful)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close() // what is still running had its time
	}
	s.serving.Wait()
	_ = s.Close() // what was bound and never served; the others are closed
	if err != nil {
		return fmt.Errorf("stop serving on %s: %w", s.Addr(), err)
	}
	return nil
}

// errorLog passes on what net/http complains about, mostly strangers' broken
// TLS handshakes: of interest when looked for, not a warning.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(p []byte) (int, error) {
	msg := string(p)
	if n := len(msg); n > 0 && msg[n-1] == '\n' {
		msg = msg[:n-1]
	}
	e.log.Debug("http server", "err", msg)
	return len(p), nil
}

var _ io.Writer = errorLog{}

// CertReloader serves a certificate from files, and again when they change.
// Safe for concurrent use.
type CertReloader struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	cert    *tls.Certificate // guarded by mu
	stamp   string           // guarded by mu; modification times and sizes
	checked time.Time        // guarded by mu
	refused string           // guarded by mu; the stamp that was last complained about
}

// recheckEvery bounds how often a handshake looks at the files.
const recheckEvery = time.Second

// NewCertReloader loads the pair. The error names the file that is missing or
// unreadable.
func NewCertReloader(certFile, keyFile string, log *slog.Logger) (*CertReloader, error) {
	c := &CertReloader{certFile: certFile, keyFile: keyFile, log: log}
	for _, f := range []struct{ what, path string }{{"certificate", certFile}, {"private key", keyFile}} {
		if f.path == "" {
			return nil, fmt.Errorf("HTTPS needs a %s file, and none is named", f.what)
		}
		if _, err := config.ReadRegular(f.path); err != nil {
			return nil, fmt.Errorf("HTTPS %s: %w", f.what, err)
		}
	}
	stamp := c.fileStamp() // before loading: files that change in between are loaded again
	cert, err := LoadKeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("HTTPS certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.cert, c.stamp, c.checked = &cert, stamp, time.Now()
	return c, nil
}

// Leaf is the certificate that is served now.
func (c *CertReloader) Leaf() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cert.Leaf
}

// LoadKeyPair is tls.LoadX509KeyPair of files that may begin with a byte order
// mark.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := config.ReadRegular(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := config.ReadRegular(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(key)
	return tls.X509KeyPair(cert, key)
}

func (c *CertReloader) fileStamp() string {
	var s string
	for _, path := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(path); err == nil {
			s += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), ";")
		}
	}
	return s
}

// GetCertificate is for tls.Config. While new files do not fit together (one
// is written before the other) the old pair stays in use. One handshake a
// second looks at the files, the others do not wait for it.
func (c *CertReloader) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	current, loaded, due := c.cert, c.stamp, time.Since(c.checked) >= recheckEvery
	if due {
		c.checked = time.Now()
	}
	c.mu.Unlock()
	if !due {
		return current, nil
	}
	stamp := c.fileStamp()
	if stamp == loaded {
		return current, nil
	}
	cert, err := LoadKeyPair(c.certFile, c.keyFile)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if c.refused != stamp {
			c.refused = stamp
			c.log.Warn("new certificate is not usable yet; the old one stays", "file", c.certFile, "err", err)
		}
		return c.cert, nil
	}
	c.cert, c.stamp, c.refused = &cert, stamp, ""
	c.log.Info("certificate reloaded", "file", c.certFile)
	return c.cert, nil
}
