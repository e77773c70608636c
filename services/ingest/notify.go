package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
)

// errNoMessage: the body of /notify has no message, or one that Python considers
// for false.
var errNoMessage = errors.New("no message provided")

// notify is POST /notify, the predecessor's call, with the predecessor's
// answers.
func (s *Service) notify(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	if _, err := s.newMeter(w, g); err != nil { // of one message, and also if it is refused
		return err
	}
	o, err := s.origin(r, g)
	if err != nil {
		return err
	}
	if err := mayPublish(o, proto.Broadcast, ""); err != nil {
		return err
	}
	if err := checkEncoding(w, r, "application/json"); err != nil {
		return err
	}
	body, err := httpx.ReadBody(w, r, s.current.Load().MaxRequestBytes)
	if err != nil {
		return err
	}
	message, err := notifyMessage(body)
	if err != nil {
		return err
	}
	if err := s.checkSize(message, ""); err != nil {
		return err
	}
	p := proto.Publication{Channel: proto.Broadcast, Data: message}
	if err := p.Check(math.MaxInt); err != nil {
		return proto.ProblemInvalidMessage.With(err.Error())
	}
	d := s.publisher.Send(&o.Origin, &p, p.Channel, publish.Whole)
	if _, err := s.publisher.Settle(r.Context(), d); err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "Message sent"})
	return nil
}

// notifyMessage returns the member message of the body. Other members are
// ignored, as the predecessor did; message itself must not be there twice.
// Errors are errNoMessage and problems.
func notifyMessage(body []byte) (json.RawMessage, error) {
	if !json.Valid(body) {
		return nil, invalidJSON(body, nil)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errNoMessage // JSON, but no object: it has no members
	}
	var message json.RawMessage
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, invalidJSON(body, err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, invalidJSON(body, err)
		}
		if name != "message" {
			continue
		}
		if message != nil {
			return nil, proto.ProblemInvalidMessage.With("message is there twice")
		}
		message = value
	}
	if falsy(message) {
		return nil, errNoMessage
	}
	return message, nil
}

// falsy reports whether Python considers a JSON value false: the predecessor
// asked "if not message". nil is a value that is not there. v must be valid.
func falsy(v json.RawMessage) bool {
	if len(v) == 0 {
		return true
	}
	switch c := v[0]; c {
	case '"':
		return len(v) == 2
	case 't':
		return false
	case 'f', 'n':
		return true
	case '[', '{':
		return len(bytes.TrimSpace(v[1:len(v)-1])) == 0
	}
	// A number: 0, -0, 0.0, 0e5. One that is too small for a float, such as
	// 1e-999, is 0 to Python too.
	f, err := strconv.ParseFloat(string(v), 64)
	return f == 0 && (err == nil || errors.Is(err, strconv.ErrRange))
}

// writeNotifyError answers /notify with {"error": …}.
func (s *Service) writeNotifyError(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusBadRequest, "No message provided"
	s.refused(r, err)
	if !errors.Is(err, errNoMessage) {
		p := httpx.Problem(err)
		if p == nil {
			s.log.ErrorContext(r.Context(), "request failed", "request", httpx.RequestID(r), "method", r.Method, "path",
				r.URL.Path, "err", err)
			p = proto.ProblemInternal
		}
		switch status = p.Status; status {
		case http.StatusUnauthorized, http.StatusForbidden:
			status, text = http.StatusUnauthorized, "Unauthorized"
			w.Header().Set("WWW-Authenticate", `Bearer realm="herald"`)
		case http.StatusBadRequest, http.StatusUnsupportedMediaType: // a body that is compressed
			status = http.StatusBadRequest
			text = "Invalid message: " + p.Detail
		default:
			text = p.Error()
		}
	}
	if status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		httpx.RetryAfter(w, 0)
	}
	httpx.WriteJSON(w, status, map[string]string{"error": text})
}
