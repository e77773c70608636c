package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// maxMessages bounds one request, counted per message and channel: 8 MiB of
// the smallest messages to a hundred channels each would be 1.6 million. An
// NDJSON stream has no such bound.
const maxMessages = 100_000

// answerTimeout is how long the answer to an array may take to be read. The
// server's own write timeout may be over when the last message is stored.
const answerTimeout = 30 * time.Second

// postMessages is POST /v1/messages: one message, an array of them, or an
// NDJSON stream.
func (s *Service) postMessages(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	mediaType, err := mediaType(r)
	if err != nil {
		return err
	}
	o, err := s.origin(r, g)
	if err != nil {
		return err
	}
	switch mediaType {
	case "application/x-ndjson":
		return s.postStream(w, r, o)
	case "application/json", "":
	default:
		return proto.ProblemMediaType.With(mediaType + "; want application/json or application/x-ndjson")
	}
	body, err := httpx.ReadBody(w, r, s.cfg.MaxRequestBytes)
	if err != nil {
		return err
	}
	if b := bytes.TrimLeft(body, " \t\r\n"); len(b) > 0 && b[0] == '[' {
		return s.postArray(w, r, o, b)
	}
	p, err := s.parse(o, body, "")
	if err != nil {
		return err
	}
	if p.Channel == "" {
		return s.publishAll(w, r, o, []proto.Publication{p}, publish.Whole)
	}
	return s.publishOne(w, r, o, &p)
}

// postArray takes an array element by element, so that a wrong one is found
// before the rest is decoded.
func (s *Service) postArray(w http.ResponseWriter, r *http.Request, o *origin, body []byte) error {
	var pubs []proto.Publication
	messages := 0
	take := func(element []byte) error {
		at := "/" + strconv.Itoa(len(pubs))
		p, err := s.parse(o, element, at)
		if err != nil {
			// Of two faults the body's is told: what is not JSON has no places.
			if !json.Valid(body) {
				return invalidJSON(body, nil)
			}
			return err
		}
		if messages += max(1, len(p.Channels)); messages > maxMessages {
			return proto.ProblemTooLarge.With(fmt.Sprintf("more than %d messages; send them as application/x-ndjson", maxMessages)).At(at)
		}
		pubs = append(pubs, p)
		return nil
	}
	if err := eachElement(body, take); err != nil {
		return err
	}
	return s.publishAll(w, r, o, pubs, 0)
}

// eachElement calls do with each element of a JSON array, until it fails. Its
// own errors are problems of the body.
func eachElement(body []byte, do func(element []byte) error) error {
	if elements, ok := proto.SplitArray(body); ok {
		for _, element := range elements {
			if err := do(element); err != nil {
				return err
			}
		}
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return invalidJSON(body, err)
	}
	for d.More() {
		var element json.RawMessage
		if err := d.Decode(&element); err != nil {
			return invalidJSON(body, err)
		}
		if err := do(element); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return invalidJSON(body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return proto.ProblemInvalidJSON.With("there is more after the array")
	}
	return nil
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
	if limit := s.publisher.MaxData(s.cfg.MaxMessageBytes); len(data) > limit {
		return proto.ProblemTooLarge.With(fmt.Sprintf("the data has %d bytes, at most %d are allowed", len(data), limit)).At(at)
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
	if err := take(w, o.Grant, 1); err != nil {
		return err
	}
	d := s.publisher.Send(&o.Origin, p, p.Channel, publish.Whole)
	res, err := s.publisher.Settle(r.Context(), d)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if p.Ephemeral {
		status = http.StatusAccepted
	}
	httpx.WriteLine(w, status, append(res.AppendTo(make([]byte, 0, 512)), '\n')) // a channel of 255 bytes fits
	return nil
}

// publishAll answers with an array of results, one per message and channel.
// first is the place of the first publication, or publish.Whole.
func (s *Service) publishAll(w http.ResponseWriter, r *http.Request, o *origin, pubs []proto.Publication, first int) error {
	out := make([]outgoing, 0, len(pubs)) // most go to one channel
	for i := range pubs {
		place := publish.Whole
		if first != publish.Whole {
			place = first + i
		}
		if pubs[i].Channel != "" {
			out = append(out, outgoing{&pubs[i], pubs[i].Channel, place})
		}
		for _, channel := range pubs[i].Channels {
			out = append(out, outgoing{&pubs[i], channel, place})
		}
	}
	if err := take(w, o.Grant, len(out)); err != nil {
		return err
	}
	results, err := s.sendAll(r.Context(), o, out)
	// Not every ResponseWriter has deadlines; then the server's own holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	var p *proto.Problem
	if errors.As(err, &p) {
		partly := *p
		partly.Results = results
		return &partly
	}
	answer := append(make([]byte, 0, 128*len(results)), '[')
	for i := range results {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = results[i].AppendTo(answer)
	}
	httpx.WriteLine(w, http.StatusOK, append(answer, "]\n"...))
	return nil
}

// outgoing is one message of a publication: to one of its channels.
type outgoing struct {
	*proto.Publication
	channel string
	place   int
}

// sendAll publishes in order, at most publish.MaxWindow messages ahead of their
// acknowledgements. After the first failure nothing more is sent; what was is
// waited for. There is one result per message, in any case; the error is the
// first one.
func (s *Service) sendAll(ctx context.Context, o *origin, out []outgoing) ([]proto.Result, error) {
	results := make([]proto.Result, len(out))
	window := make([]*publish.Delivery, min(publish.MaxWindow, len(out))) // a ring
	var failed error
	sent, settled := 0, 0
	settle := func() {
		res, err := s.publisher.Settle(ctx, window[settled%len(window)])
		results[settled] = res
		settled++
		if failed == nil {
			failed = err
		}
	}
	for sent < len(out) && failed == nil {
		if sent-settled == len(window) {
			settle()
			continue
		}
		m := out[sent]
		d := s.publisher.Send(&o.Origin, m.Publication, m.channel, m.place)
		unsent := d.Unsent()
		window[sent%len(window)] = d
		sent++
		for unsent && settled < sent { // whether that is the end must be known before the next one
			settle()
		}
	}
	for settled < sent {
		settle()
	}
	for i := sent; i < len(out); i++ {
		results[i] = proto.Result{Status: proto.StatusFailed, Channel: out[i].channel}
		s.publisher.Count(proto.StatusFailed)
	}
	return results, failed
}

// mediaType is the content type without its parameters, in lower case; empty
// where the request has none. Everything is UTF-8 and nothing is compressed.
func mediaType(r *http.Request) (string, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return "", proto.ProblemMediaType.With("Content-Encoding " + strconv.Quote(e) + " is not supported; send the body as it is")
	}
	header := r.Header.Get("Content-Type")
	switch header {
	case "", "application/json", "application/x-ndjson": // as most write it
		return header, nil
	}
	t, params, err := mime.ParseMediaType(header)
	if err != nil {
		return "", proto.ProblemMediaType.With("Content-Type: " + err.Error())
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return t, nil
	}
	return "", proto.ProblemMediaType.With("charset " + strconv.Quote(params["charset"]) + "; everything is UTF-8 here")
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
