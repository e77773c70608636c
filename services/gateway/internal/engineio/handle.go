package engineio

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Hooks is what Handle leaves to its caller.
type Hooks struct {
	V3        bool // clients of revision 3 are served
	GzipAbove int  // see Response.WriteGet
	// Begin answers a request for a new session: see Server.Begin.
	Begin func(q Query)
	// Pass answers a request of a session that polls: Server.Serve, here or at the node
	// that has the session.
	Pass func(ctx context.Context, q Query, method string, body []byte, binary bool) Response
	// Upgrade serves a WebSocket that asks for a session that polls: Probe, or the same at
	// the node that has the session.
	Upgrade func(q Query)
}

// Handle serves one HTTP request. values are the parameters of its URL. The caller has
// judged the page that it comes from.
func (s *Server) Handle(w http.ResponseWriter, r *http.Request, values url.Values, h Hooks) {
	q, err := ParseQuery(values, h.V3)
	switch {
	case err != nil:
		refuse(w, err)
	case q.SID != "" && q.WebSocket:
		h.Upgrade(q)
	case q.SID != "":
		s.handlePoll(w, r, q, h)
	case r.Method != http.MethodGet:
		refuse(w, BadHandshakeMethod)
	default:
		if !q.WebSocket {
			lastLonger(w)
		}
		h.Begin(q)
	}
}

func refuse(w http.ResponseWriter, err error) {
	code := BadRequest
	_ = errors.As(err, &code) // any other error is a bad request, too
	code.Response().Write(w, false, "")
}

// handlePoll serves a GET or POST of a session that polls.
func (s *Server) handlePoll(w http.ResponseWriter, r *http.Request, q Query, h Hooks) {
	post := r.Method == http.MethodPost
	var body []byte
	if post {
		var err error
		limit := int64(s.cfg.MaxPayload)
		if q.Script != "" {
			limit *= 3 // a form percent-encodes
		}
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit+1)) // Serve refuses what is longer than MaxPayload
		if err == nil && q.Script != "" {
			body, err = FromForm(body)
		}
		if tooBig := new(http.MaxBytesError); err != nil && !errors.As(err, &tooBig) {
			refuse(w, BadRequest)
			return
		}
	} else {
		lastLonger(w)
	}
	binary := strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet-stream")
	response := h.Pass(r.Context(), q, r.Method, body, binary)
	if post {
		response.Write(w, true, q.Script)
	} else {
		response.WriteGet(w, h.GzipAbove, q.Script)
	}
}

// lastLonger lifts the HTTP server's deadline for a response that waits for something to
// say; heartbeats end it.
func lastLonger(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // fails only if there is none
}
