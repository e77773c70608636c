package ws

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// handshakeTimeout bounds the write of the answer to a handshake.
const handshakeTimeout = 5 * time.Second

// version is the one that RFC 6455 defines.
const version = "13"

// Upgrade does the WebSocket handshake and returns the socket, which is the
// caller's from then on. subprotocol is named in the answer if the client offers it;
// empty: none is. deflates reports whether permessage-deflate was
// negotiated; allowDeflate false: it is not. On an error the caller has nothing
// to close: refuse has answered, once, or the socket is gone. Before it calls
// refuse, Upgrade sets the headers that the answer must have (RFC 9110 section
// 15.5.22, RFC 6455 section 4.4). The caller has checked the origin.
func Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, allowDeflate bool,
	refuse func(status int, reason error)) (nc net.Conn, deflates bool, err error) {
	u := websocket.Upgrader{
		HandshakeTimeout: handshakeTimeout,
		CheckOrigin:      func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, r *http.Request, status int, reason error) {
			if r.ProtoMajor == 1 { // HTTP/2 has no Upgrade
				w.Header().Set("Upgrade", "websocket")
				w.Header().Set("Connection", "Upgrade")
			}
			if wrongVersion(r) {
				status = http.StatusUpgradeRequired
				w.Header().Set("Sec-WebSocket-Version", version)
			}
			refuse(status, reason)
		},
	}
	if subprotocol != "" {
		u.Subprotocols = []string{subprotocol}
	}
	var answer http.Header
	if allowDeflate {
		if extension := Negotiate(r.Header["Sec-Websocket-Extensions"]); extension != "" {
			// gorilla refuses to be given this header in the spelling of
			// net/http, lest it contradict the answer of its own compression,
			// which is off here.
			answer = http.Header{"Sec-WebSocket-Extensions": {extension}}
		}
	}
	if websocket.IsWebSocketUpgrade(r) && wrongVersion(r) { // gorilla accepts the header twice, too
		err := errors.New("Sec-WebSocket-Version: want 13, in one header")
		u.Error(w, r, http.StatusUpgradeRequired, err)
		return nil, false, err
	}
	c, err := u.Upgrade(w, r, answer)
	if err != nil {
		return nil, false, err
	}
	return c.NetConn(), answer != nil, nil
}

// wrongVersion reports whether the client does not ask for the version that this package speaks, perhaps among
// others, in one header (RFC 6455 section 11.3.5: it appears once).
func wrongVersion(r *http.Request) bool {
	lines := r.Header["Sec-Websocket-Version"]
	if len(lines) != 1 {
		return true
	}
	for v := range strings.SplitSeq(lines[0], ",") {
		if strings.TrimSpace(v) == version {
			return false
		}
	}
	return true
}
