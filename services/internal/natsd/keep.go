package natsd

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// lookEvery is how often keep reads the health of the store; after an error that
	// nats-server logs it does so without waiting.
	lookEvery = time.Second
	// minPause and maxPause are between two restarts in a row: a disk that
	// has just enough room for a restart would otherwise cost the clients a
	// reconnect each second.
	minPause, maxPause = time.Second, 30 * time.Second
	// madeWithin is how long a stream may take from its folder to being known. nats-server
	// takes one that is being made for one that could not be recovered. For as long it may say that it accepts no
	// connections: it gives itself a millisecond to find that out, which is less than a busy machine stops for.
	madeWithin = 10 * time.Second
	// sound is after how long without a fault the pause is minPause again.
	sound = time.Minute
)

// keep looks after the nats-server until Shutdown: it is the only one that
// starts and replaces it after Start.
func (s *Server) keep() {
	defer close(s.stopped)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	pause, tried := minPause, time.Time{} // tried: when the last restart began
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		case <-s.stirred:
		}
		_ = s.announce() // it logs its error, and is called again
		err := s.look(true)
		if err == nil {
			s.recovered()
			if time.Since(tried) > sound {
				pause = minPause
			}
			continue
		}
		if errors.Is(err, errNoRoom) { // nothing has failed yet
			s.ail(err)
			continue
		}
		if hindrance := writable(s.cfg.Dir); hindrance != nil {
			s.ail(fmt.Errorf("%w; %w", hindrance, err))
			continue
		}
		s.ail(err)
		if time.Since(tried) < pause {
			continue
		}
		pause, tried = min(2*pause, maxPause), time.Now()
		s.restart()
	}
}

// look asks the nats-server how its streams are. Without a file to open it
// finds no stream to report of, and reports health: then its log tells whether
// it failed to write, until it can be asked again. While messages are stored, and
// lenient is set, a stream that is not known yet has madeWithin.
func (s *Server) look(lenient bool) error {
	if err := openable(s.cfg.Dir); err != nil {
		if s.failed.Load() || s.Fault() != nil {
			return err
		}
		return nil
	}
	s.mu.Lock()
	n := s.server
	s.mu.Unlock()
	if n == nil {
		return errors.New("the embedded NATS does not run")
	}
	health := n.Healthz(&server.HealthzOptions{Details: true})
	errs := s.unknown.lasting(health.Errors, time.Now())
	if !lenient || s.Fault() != nil {
		errs = health.Errors
	}
	var reasons []string
	for _, e := range errs {
		reasons = append(reasons, e.Error)
	}
	if len(reasons) > 0 {
		return errors.New(strings.Join(reasons, "; "))
	}
	s.failed.Store(false)
	return room(s.cfg.Dir)
}

// unknown is since when nats-server does not know streams whose folders are there, or whether it accepts connections.
type unknown map[string]time.Time

// lasting is errs without those of what has not been unknown for madeWithin yet.
func (u unknown) lasting(errs []server.HealthzError, now time.Time) (lasting []server.HealthzError) {
	seen := map[string]bool{}
	for _, e := range errs {
		if e.Type == server.HealthzErrorConn && strings.Contains(e.Error, "ready for connections") ||
			e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "could not be recovered") {
			name := e.Account + " " + e.Stream
			if seen[name] = true; u[name].IsZero() {
				u[name] = now
			}
			if now.Sub(u[name]) < madeWithin {
				continue
			}
		}
		lasting = append(lasting, e)
	}
	maps.DeleteFunc(u, func(name string, _ time.Time) bool { return !seen[name] })
	return lasting
}

// restart replaces the nats-server. Nothing that it acknowledged is lost by
// that: an acknowledged message is in the file, whatever became of later ones.
func (s *Server) restart() {
	s.log.Warn("the folder of the embedded NATS can be written to again; restarting it")
	s.halt()
	err := s.launch()
	if err != nil {
		// Another program may have the port now.
		s.mu.Lock()
		s.port = 0
		s.mu.Unlock()
		err = s.launch()
	}
	if err != nil {
		s.ail(err)
		return
	}
	_ = s.announce() // it logs its error, and is called again
	if err := s.look(false); err != nil {
		s.ail(err)
		return
	}
	s.recovered()
}

// ail notes why messages cannot be stored, and logs it when it begins.
func (s *Server) ail(err error) {
	if s.fault.Swap(&err) == nil {
		s.log.Error("messages cannot be stored; publishing answers 503 until they can", "dir", s.cfg.Dir, "err", err)
	}
}

// recovered notes that messages can be stored, and logs it when they could not.
func (s *Server) recovered() {
	if s.fault.Swap(nil) != nil {
		s.log.Info("messages can be stored again", "dir", s.cfg.Dir)
	}
}

// announce calls Listening with the URL unless it has. Of errors in a row the first is
// logged.
func (s *Server) announce() error {
	s.mu.Lock()
	url, done := s.url, s.announced || s.server == nil
	s.mu.Unlock()
	if done {
		return nil
	}
	err := s.cfg.Listening(url)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !s.unannounced {
		s.log.Warn("where the embedded NATS listens cannot be written down; trying again", "err", err)
	}
	s.announced, s.unannounced = err == nil, err != nil
	return err
}
