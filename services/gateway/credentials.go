package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// tokenOf finds the token that a client brings: as a parameter, in the header
// Authorization, as a WebSocket subprotocol, or, where the setting names one, in
// a cookie. It is empty without one. A browser adds the cookie by itself, so it
// counts only for pages that are trusted, and only where no other token came.
func (s *Service) tokenOf(r *http.Request, query url.Values, p page) (string, error) {
	var found []string
	add := func(token string) {
		if token != "" && (len(found) == 0 || found[0] != token) {
			found = append(found, token)
		}
	}
	add(query.Get("token"))
	bearer, err := httpx.Bearer(r)
	if err != nil {
		return "", err
	}
	add(bearer)
	for _, protocol := range subprotocols(r) {
		if token, ok := strings.CutPrefix(protocol, proto.SubprotocolToken); ok {
			add(token)
		}
	}
	if len(found) > 1 {
		return "", errors.New("several different tokens came with one request; send one")
	}
	if len(found) == 0 && s.cfg.TokenCookie != "" && p.trusted {
		for _, cookie := range r.CookiesNamed(s.cfg.TokenCookie) {
			add(cookie.Value)
		}
		if len(found) > 1 {
			return "", fmt.Errorf("the cookie %s came twice with different values", s.cfg.TokenCookie)
		}
	}
	if len(found) == 0 {
		return "", nil
	}
	return strings.Clone(found[0]), nil // nothing of the request lives on
}

// subprotocols are what a WebSocket client offers to speak.
func subprotocols(r *http.Request) (offered []string) {
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for protocol := range strings.SplitSeq(line, ",") {
			if protocol = strings.TrimSpace(protocol); protocol != "" {
				offered = append(offered, protocol)
			}
		}
	}
	return offered
}

// checkSubprotocols refuses a client that offers nothing but its token: a
// handshake has to answer one of the offers, and a token must not be repeated.
func checkSubprotocols(r *http.Request) error {
	token := false
	for _, protocol := range subprotocols(r) {
		if protocol == proto.Subprotocol {
			return nil
		}
		token = token || strings.HasPrefix(protocol, proto.SubprotocolToken)
	}
	if token {
		return fmt.Errorf("Sec-WebSocket-Protocol: offer %s, too, beside the token: it is the one that is answered",
			proto.Subprotocol)
	}
	return nil
}
