package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
)

// answerTimeout is how long the answer to an array may take to be read. The
// server's own write timeout may be over when the last message is stored.
const answerTimeout = 30 * time.Second

// acceptMessages are the content types of POST /v1/messages, as Accept-Post says them.
const acceptMessages = "application/json, application/x-ndjson"

// postMessages is POST /v1/messages: one message, an array of them, or an
// NDJSON stream.
func (s *Service) postMessages(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	contentType, err := mediaType(w, r, acceptMessages)
	if err == nil { // a ttl in the URL would be a message without one
		_, err = parameters(r)
	}
	if err == nil && contentType == "application/x-ndjson" {
		o, err := s.origin(r, g)
		if err != nil {
			return err
		}
		return s.postStream(w, r, o)
	}
	m, over := s.newMeter(w, g) // before the request is looked at: one that is refused counts, too
	switch {
	case over != nil:
		return over
	case err != nil:
		return err
	case contentType != "application/json" && contentType != "":
		return unsupported(w, acceptMessages, contentType+"; want application/json or application/x-ndjson")
	}
	o, err := s.origin(r, g)
	if err != nil {
		return err
	}
	body, err := httpx.NewBody(w, r, s.current.Load().MaxRequestBytes)
	if err != nil {
		return err
	}
	for !body.Ended() && len(body.Bytes()) <= s.maxPublication() {
		if err := body.More(); err != nil {
			return err
		}
		if b := bytes.TrimLeft(body.Bytes(), " \t\r\n"); len(b) > 0 && b[0] == '[' {
			return s.postArray(w, r, o, body, m)
		}
	}
	if !body.Ended() {
		return s.tooLong("")
	}
	p, err := s.parse(o, body.Bytes(), "")
	if err == nil {
		err = m.count(&p, "")
	}
	if err != nil {
		return err
	}
	if p.Channel == "" {
		return s.publishAll(w, r, o, func(yield func(int, proto.Publication) bool) { yield(publish.Whole, p) },
			m.messages)
	}
	return s.publishOne(w, r, o, &p)
}

// parse decodes and checks one publication, and whether the key covers its
// channels. Errors are problems that point below at.
func (s *Service) parse(o *origin, b []byte, at string) (proto.Publication, error) {
	// The size is checked here and not by proto, because it has a problem of
	// its own.
	p, err := proto.ParsePublication(b, math.MaxInt)
	if err != nil {
		var field *proto.FieldError
		switch {
		case !errors.As(err, &field):
			return p, err
		case field.Field == "" && !(utf8.Valid(b) && json.Valid(b)):
			return p, proto.ProblemInvalidJSON.With(err.Error()).At(at)
		}
		return p, proto.ProblemInvalidMessage.With(err.Error()).At(at + field.Field)
	}
	if err := s.checkSize(p.Data, at+"/data"); err != nil {
		return p, err
	}
	if p.Channel != "" {
		return p, mayPublish(o, p.Channel, at+"/channel")
	}
	for i, channel := range p.Channels {
		if err := mayPublish(o, channel, at+"/channels/"+strconv.Itoa(i)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (s *Service) checkSize(data []byte, at string) error {
	if limit := s.publisher.MaxData(s.current.Load().MaxMessageBytes); len(data) > limit {
		return proto.ProblemTooLarge.With(fmt.Sprintf("the data has %d bytes, at most %d are allowed", len(data),
			limit)).At(at)
	}
	return nil
}

func mayPublish(o *origin, channel, at string) error {
	if o.May(channel) {
		return nil
	}
	return proto.ProblemForbidden.With(fmt.Sprintf("the key %q may not publish to %s", o.Name, channel)).At(at)
}

// publishOne answers with one result.
func (s *Service) publishOne(w http.ResponseWriter, r *http.Request, o *origin, p *proto.Publication) error {
	d := s.publisher.Send(&o.Origin, p, p.Channel, publish.Whole)
	res, err := s.publisher.Settle(r.Context(), d)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if p.Ephemeral {
		status = http.StatusAccepted
	}
	httpx.WriteLine(w, status, append(res.AppendTo(make([]byte, 0, 128+len(p.Channel))), '\n'))
	return nil
}

// publishAll answers with an array of results, one per message and channel, of
// which there are n. pubs have their places.
func (s *Service) publishAll(w http.ResponseWriter, r *http.Request, o *origin, pubs iter.Seq2[int, proto.Publication],
	n int) error {
	answer, err := s.sendAll(r.Context(), o, pubs, n)
	// Not every ResponseWriter has deadlines; then the server's own holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	var p *proto.Problem
	if errors.As(err, &p) {
		partly := *p
		if err := json.Unmarshal(answer, &partly.Results); err != nil {
			return fmt.Errorf("read results again: %w", err)
		}
		return &partly
	}
	httpx.WriteLine(w, http.StatusOK, append(answer, '\n'))
	return nil
}

// sendAll publishes in order, at most publish.MaxWindow messages ahead of their
// acknowledgements. After the first failure nothing more is sent; what was is
// waited for. There is one result per message, in any case, in a JSON array;
// the error is the first one.
func (s *Service) sendAll(ctx context.Context, o *origin, pubs iter.Seq2[int, proto.Publication],
	n int) (results []byte, failed error) {
	window := make([]*publish.Delivery, min(publish.MaxWindow, n)) // a ring
	results = append(make([]byte, 0, 128*min(n, 1024)), '[')
	add := func(res proto.Result) {
		if len(results) > 1 {
			results = append(results, ',')
		}
		results = res.AppendTo(results)
	}
	sent, settled := 0, 0
	settle := func() {
		res, err := s.publisher.Settle(ctx, window[settled%len(window)])
		add(res)
		settled++
		if failed == nil {
			failed = err
		}
	}
	send := func(place int, pub *proto.Publication, channel string) {
		for sent-settled == len(window) && failed == nil {
			settle()
		}
		if failed != nil {
			for settled < sent {
				settle()
			}
			add(proto.Result{Status: proto.StatusFailed, Channel: channel})
			s.publisher.Count(proto.StatusFailed)
			return
		}
		d := s.publisher.Send(&o.Origin, pub, channel, place)
		unsent := d.Unsent()
		window[sent%len(window)] = d
		sent++
		for unsent && settled < sent { // whether that is the end must be known before the next one
			settle()
		}
	}
	for place, pub := range pubs {
		if pub.Channel != "" {
			send(place, &pub, pub.Channel)
		}
		for _, channel := range pub.Channels {
			send(place, &pub, channel)
		}
	}
	for settled < sent {
		settle()
	}
	return append(results, ']'), failed
}

// mediaType is the content type without its parameters, in lower case; empty
// where the request has none. Everything is UTF-8 and nothing is compressed.
// accept are the content types of the path, for the answer to another one.
func mediaType(w http.ResponseWriter, r *http.Request, accept string) (string, error) {
	if err := checkEncoding(w, r, accept); err != nil {
		return "", err
	}
	header, err := httpx.Single(r, "Content-Type")
	if err != nil {
		return "", err
	}
	switch header {
	case "", "application/json", "application/x-ndjson": // as most write it
		return header, nil
	}
	t, params, err := mime.ParseMediaType(header)
	if err != nil {
		return "", unsupported(w, accept, "Content-Type: "+err.Error())
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return t, nil
	}
	return "", unsupported(w, accept, "charset "+strconv.Quote(params["charset"])+"; everything is UTF-8 here")
}

// checkEncoding refuses a body that is compressed.
func checkEncoding(w http.ResponseWriter, r *http.Request, accept string) error {
	encoding, err := httpx.Single(r, "Content-Encoding")
	if err == nil && encoding != "" && !strings.EqualFold(encoding, "identity") {
		w.Header().Set("Accept-Encoding", "identity") // RFC 9110 section 12.5.3
		err = unsupported(w, accept, "Content-Encoding "+strconv.Quote(encoding)+
			" is not supported; send the body as it is")
	}
	return err
}

// unsupported is the problem of a body whose content type the path does not have,
// which Accept-Post lists (Linked Data Platform 1.0 section 7.1).
func unsupported(w http.ResponseWriter, accept, detail string) error {
	w.Header().Set("Accept-Post", accept)
	return proto.ProblemMediaType.With(detail)
}

// invalidJSON is the problem of a body that does not parse. err is what the
// decoder says of it; nil asks again.
func invalidJSON(body []byte, err error) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return proto.ProblemInvalidJSON.With("the body is empty")
	}
	if err == nil {
		var v json.RawMessage
		err = json.Unmarshal(body, &v)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return proto.ProblemInvalidJSON.With("the body ended early")
	}
	return proto.ProblemInvalidJSON.With(err.Error())
}
