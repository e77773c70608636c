package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Listen is where the single binary listens, in the words of its predecessor's
// window and of config/socket_config.json.
type Listen struct {
	Protocol string `json:"protocol"` // http or https
	Port     string `json:"port"`     // 1 to 65535
	CertPath string `json:"certpath"` // PEM; used with https alone
	KeyPath  string `json:"keypath"`
}

// Listener changes where the process listens while it runs. Safe for concurrent use.
type Listener interface {
	// Now is where it listens, the file that says so, the address in full, and why that
	// cannot be changed here; empty: it can.
	Now() (now Listen, file, address, locked string)
	// Change listens at another address besides. Unless Confirm is called with the token
	// within the time, that ends again. Errors are sentences for people; nothing has
	// changed then.
	Change(Listen) (token string, within time.Duration, err error)
	// Confirm makes the change last, writes it into the file, and frees the old address.
	// The error is ErrUnconfirmed for a token that is none, or no longer one.
	Confirm(ctx context.Context, token string) (Listen, error)
}

// Errors of Listener.
var (
	ErrUnconfirmed = errors.New(
		"there is no such change, or it was not confirmed in time and Herald listens where it did before")
	ErrUnderWay = errors.New("another change waits to be confirmed; it ends by itself within a minute")
)

// listenAnswer is the answer of GET listen.
type listenAnswer struct {
	Listen
	File    string `json:"file"`
	Address string `json:"address"`
	Locked  string `json:"locked"`
}

// listener is the process's, unless it has none to change. The error is a problem.
func (s *Service) listener() (Listener, error) {
	if s.deps.Listener == nil {
		return nil, proto.ProblemNotFound.With("the services listen where their deployment says; only the " +
			"single binary changes that here")
	}
	return s.deps.Listener, nil
}

func (s *Service) getListen(w http.ResponseWriter, _ *http.Request, _ *call) error {
	l, err := s.listener()
	if err != nil {
		return err
	}
	a := listenAnswer{}
	a.Listen, a.File, a.Address, a.Locked = l.Now()
	httpx.WriteJSON(w, http.StatusOK, a)
	return nil
}

// putListen begins a change, and says where the page has to confirm it.
func (s *Service) putListen(w http.ResponseWriter, r *http.Request, c *call) error {
	l, err := s.listener()
	if err != nil {
		return err
	}
	var want Listen
	if err := readJSON(w, r, &want); err != nil {
		return err
	}
	was, _, _, locked := l.Now()
	if locked != "" {
		return problemConflict.With(locked)
	}
	var token string
	var within time.Duration
	err = s.act(r.Context(), c, intent{action: "listen.change", target: want.Port, before: was, after: want},
		func() (_ any, err error) {
			token, within, err = l.Change(want)
			switch {
			case errors.Is(err, ErrUnderWay):
				err = problemConflict.With(err.Error())
			case err != nil:
				err = problemInvalid.With(err.Error())
			}
			return nil, err
		})
	if err != nil {
		return err
	}
	host := httpx.Authority(r, &s.cfg.TrustedProxies) // where the page found this server
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	httpx.WriteJSON(w, http.StatusAccepted, map[string]any{
		"url": want.Protocol + "://" + net.JoinHostPort(strings.Trim(host, "[]"), want.Port) +
			"/admin/",
		"token":                  token,
		"confirm_within_seconds": int(within / time.Second),
	})
	return nil
}

// confirmListen makes a change last. The token alone is enough: the browser's session is
// of the old address.
func (s *Service) confirmListen(w http.ResponseWriter, r *http.Request, c *call) error {
	l, err := s.listener()
	if err != nil {
		return err
	}
	var body struct {
		Token string `json:"token"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	now, err := l.Confirm(r.Context(), body.Token)
	switch {
	case errors.Is(err, ErrUnconfirmed):
		return problemConflict.With(err.Error())
	case err != nil: // it listens there, and a start would not
		return proto.ProblemInternal.With("Herald listens at the new address until it stops, but could not note it: " +
			err.Error())
	}
	c.user = "confirmed by its token"
	s.audit(r.Context(), c, intent{action: "listen.confirm", target: now.Port, after: now})
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"saved": true, "listen": now})
	return nil
}

// Validate says what is wrong with l, in a sentence.
func (l Listen) Validate() error {
	if l.Protocol != "http" && l.Protocol != "https" {
		return errors.New(`protocol: want "http" or "https"`)
	}
	if port, err := strconv.Atoi(l.Port); err != nil || port < 1 || port > 65535 || strconv.Itoa(port) != l.Port {
		return errors.New("port: want a number from 1 to 65535, such as 5000")
	}
	if l.Protocol == "https" && l.CertPath == "" {
		return errors.New("certpath: https needs the path of the certificate file")
	}
	if l.Protocol == "https" && l.KeyPath == "" {
		return errors.New("keypath: https needs the path of the private key file")
	}
	return nil
}
