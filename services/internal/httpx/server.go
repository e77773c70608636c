package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
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

// Server is one HTTP listener. NewServer binds it, Run serves.
type Server struct {
	cfg       ServerConfig
	listener  net.Listener
	server    *http.Server
	admission *Admission
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
	var tlsConfig *tls.Config
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		reloader, err := NewCertReloader(cfg.CertFile, cfg.KeyFile, slogger)
		if err != nil {
			return nil, err
		}
		tlsConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: reloader.GetCertificate,
			NextProtos:     []string{"h2", "http/1.1"},
		}
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	a := newAdmission(cfg.MaxSockets, cfg.MaxPerAddress, cfg.Proxies, slogger)
	return &Server{
		cfg:       cfg,
		listener:  listener{l, a},
		admission: a,
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
			TLSConfig:         tlsConfig,
			ErrorLog:          log.New(errorLog{slogger}, "", 0),
		},
	}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Admission counts the server's sockets.
func (s *Server) Admission() *Admission { return s.admission }

// Close frees the listener of a server that Run was never called on.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, then stops accepting, lets requests under way
// finish for the grace period, and cuts off the rest. A handler that was cut
// off and does not look at its context may outlive Run.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { // ends with Shutdown or Close below; waited for through failed
		if s.server.TLSConfig != nil {
			failed <- s.server.ServeTLS(s.listener, "", "")
		} else {
			failed <- s.server.Serve(s.listener)
		}
	}()
	select {
	case err := <-failed:
		_ = s.server.Close() // connections that were accepted before; the listener is gone already
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	graceful, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer cancel()
	err := s.server.Shutdown(graceful)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close() // what is still running had its time
	}
	<-failed
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
		if _, err := config.ReadFile(f.path); err != nil {
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

// LoadKeyPair is tls.LoadX509KeyPair of files that may begin with a byte order
// mark.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := config.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := config.ReadFile(keyFile)
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
