package proto

import "strconv"

// CloseCode is why a connection ended: the code of the WebSocket close frame
// (RFC 6455 section 7.4), and the same number in a Server-Sent Events or
// Socket.IO goodbye. Registered codes are used where there is one; else
// 4000–4499 mean "come back", 4500–4999 "stay away until something changes".
type CloseCode uint16

// Every reason to hang up.
const (
	// CloseNormal: the client said goodbye.
	CloseNormal CloseCode = 1000
	// CloseGoingAway: this gateway drains before it stops. Come back and resume.
	CloseGoingAway CloseCode = 1001
	// CloseProtocolError: the client broke RFC 6455.
	CloseProtocolError CloseCode = 1002
	// CloseUnsupported: the client sent a binary frame; frames are JSON text.
	CloseUnsupported CloseCode = 1003
	// CloseInvalidPayload: a text frame was not UTF-8 or not a frame PROTOCOL.md knows.
	CloseInvalidPayload CloseCode = 1007
	// CloseForbidden: the principal may not follow a channel named in the URL, or, where the
	// URL alone can name some, none of them any more.
	CloseForbidden CloseCode = 1008
	// CloseTooBig: a client frame exceeded the limit (16 KiB by default).
	CloseTooBig CloseCode = 1009
	// CloseInternal: a fault of ours, found in the log under the connection id.
	CloseInternal CloseCode = 1011
	// CloseRestart: the service restarts. Come back and resume.
	CloseRestart CloseCode = 1012
	// CloseOverload: the gateway cannot accept or keep this client now. Come back later.
	CloseOverload CloseCode = 1013

	// CloseSlowConsumer: the client's queue was full. Come back and resume; nothing is lost.
	CloseSlowConsumer CloseCode = 4000
	// CloseHeartbeat: the client did not answer pings.
	CloseHeartbeat CloseCode = 4001
	// CloseTokenExpired: the token ran out and no auth frame brought a new one. Come back with one.
	CloseTokenExpired CloseCode = 4002
	// CloseTooManyConnections: this IP has as many connections as it may have.
	CloseTooManyConnections CloseCode = 4003
	// CloseTooManyFrames: the client sent frames faster than the limit allows.
	CloseTooManyFrames CloseCode = 4004
	// CloseTokenEarly: the token begins in the future, by more than clocks may
	// differ. Come back with backoff.
	CloseTokenEarly CloseCode = 4005
	// CloseReconnect: an operator has the client connect anew. Come back and resume.
	CloseReconnect CloseCode = 4006

	// CloseTokenInvalid: the token is malformed or forged, lacks a claim or has a
	// wrong one.
	CloseTokenInvalid CloseCode = 4500
	// CloseKicked: an operator has ended the connection. Stay away.
	CloseKicked CloseCode = 4501
	// CloseBadRequest: the URL's parameters are wrong or not known.
	CloseBadRequest CloseCode = 4502
	// CloseOrigin: the page's origin was removed from the allow-list. Stay away.
	CloseOrigin CloseCode = 4503
)

var closeNames = map[CloseCode]string{
	CloseNormal:             "normal",
	CloseGoingAway:          "going-away",
	CloseProtocolError:      "protocol-error",
	CloseUnsupported:        "unsupported",
	CloseInvalidPayload:     "invalid-payload",
	CloseForbidden:          "forbidden",
	CloseTooBig:             "too-big",
	CloseInternal:           "internal",
	CloseRestart:            "restart",
	CloseOverload:           "overload",
	CloseSlowConsumer:       "slow-consumer",
	CloseHeartbeat:          "heartbeat-timeout",
	CloseTokenExpired:       "token-expired",
	CloseTooManyConnections: "too-many-connections",
	CloseTooManyFrames:      "too-many-frames",
	CloseTokenEarly:         "token-early",
	CloseReconnect:          "reconnect",
	CloseTokenInvalid:       "token-invalid",
	CloseKicked:             "kicked",
	CloseBadRequest:         "bad-request",
	CloseOrigin:             "origin",
}

// CloseCodes lists every code in ascending order, for documents and tests.
func CloseCodes() []CloseCode {
	var codes []CloseCode
	for c := CloseNormal; c < 5000; c++ {
		if _, ok := closeNames[c]; ok {
			codes = append(codes, c)
		}
	}
	return codes
}

// String is the code's name, a few words of [a-z-]; it is the reason in the
// close frame and the value of metric labels and log attributes.
func (c CloseCode) String() string {
	if name, ok := closeNames[c]; ok {
		return name
	}
	return strconv.Itoa(int(c))
}

// ComeBack reports whether a client should reconnect by itself, with backoff.
// A lost connection without any code (1005, 1006) is a reason to come back;
// a complaint about the client is not.
func (c CloseCode) ComeBack() bool {
	switch c {
	case CloseNormal, CloseProtocolError, CloseUnsupported, CloseInvalidPayload, CloseForbidden, CloseTooBig:
		return false
	}
	return c < 4500 || c > 4999
}
