package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
)

// postChannel is POST /v1/channels/{channel}: the body is the data.
func (s *Service) postChannel(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	if _, err := s.newMeter(w, g); err != nil { // of one message, and also if it is refused
		return err
	}
	o, err := s.origin(r, g)
	if err != nil {
		return err
	}
	p, err := channelParameters(r)
	if err != nil {
		return err
	}
	if err := mayPublish(o, p.Channel, ""); err != nil {
		return err
	}
	kind, err := bodyKind(w, r)
	if err != nil {
		return err
	}
	read := httpx.ReadBody
	if kind == bytesBody {
		read = httpx.ReadBytes
	}
	body, err := read(w, r, int64(s.publisher.MaxData(s.current.Load().MaxMessageBytes)))
	if err != nil {
		return err
	}
	switch {
	case kind == bytesBody:
		p.Data = proto.QuoteBinary(body)
	case !utf8.Valid(body):
		return proto.ProblemInvalidJSON.With("the body is not UTF-8")
	case kind == textBody:
		p.Data = quote(body)
	case !json.Valid(body):
		return invalidJSON(body, nil)
	default:
		p.Data = bytes.TrimSpace(body)
	}
	if err := s.checkSize(p.Data, ""); err != nil { // quoting makes a text longer
		return err
	}
	var field *proto.FieldError
	if err := p.Check(len(p.Data)); errors.As(err, &field) { // of the data: its nesting and keys
		return proto.ProblemInvalidMessage.With(field.Err.Error()).At(strings.TrimPrefix(field.Field, "/data"))
	}
	return s.publishOne(w, r, o, &p)
}

// channelParameters reads what stands in the URL. Errors are problems.
func channelParameters(r *http.Request) (proto.Publication, error) {
	wrong := func(name string, err error) (proto.Publication, error) {
		return proto.Publication{}, proto.ProblemInvalidParameter.With(name + ": " + err.Error())
	}
	channel, err := pathChannel(r)
	if err == nil {
		err = proto.CheckChannel(channel)
	}
	if err != nil {
		return wrong("channel", err)
	}
	p := proto.Publication{Channel: channel, Event: proto.DefaultEvent}
	query, err := parameters(r, "event", "ttl", "ephemeral")
	if err != nil {
		return proto.Publication{}, err
	}
	for name, values := range query {
		switch v := values[0]; name {
		case "event":
			p.Event, err = v, proto.CheckEvent(v)
		case "ttl":
			p.TTL, err = strconv.ParseInt(v, 10, 64)
			if err != nil || p.TTL < 0 || p.TTL > proto.MaxTTL {
				err = errors.New("want seconds, from 0 to " + strconv.Itoa(proto.MaxTTL))
			}
		case "ephemeral":
			p.Ephemeral = v == "true"
			if v != "true" && v != "false" {
				err = errors.New("want true or false")
			}
		}
		if err != nil {
			return wrong(name, err)
		}
	}
	return p, nil
}

// parameters are those of the URL, of which these may be there, once each. The
// error is a problem.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	query, err := httpx.Query(r, nil, known...)
	if err != nil {
		return nil, proto.ProblemInvalidParameter.With(err.Error())
	}
	return query, nil
}

// pathChannel is what stands for {channel} in the path, decoded and not
// checked. chi matches on the encoded path where that differs from the usual
// encoding of the decoded one (user%2F4711), and on the decoded one otherwise.
// What is decoded must not be decoded again: %2541 is %41.
func pathChannel(r *http.Request) (string, error) {
	channel := chi.URLParam(r, "channel")
	if r.URL.RawPath == "" {
		return channel, nil
	}
	return url.PathUnescape(channel)
}

// acceptChannel are the content types of POST /v1/channels/{channel}, as Accept-Post
// says them.
const acceptChannel = "application/json, text/*, application/x-www-form-urlencoded, application/octet-stream"

// What a body is.
const (
	jsonBody  = iota // the data itself
	textBody         // it becomes a JSON string
	bytesBody        // it becomes one, too: see proto.QuoteBinary
)

func bodyKind(w http.ResponseWriter, r *http.Request) (int, error) {
	t, err := mediaType(w, r, acceptChannel)
	switch {
	case err != nil:
		return 0, err
	case t == "", t == "application/json", strings.HasSuffix(t, "+json"):
		return jsonBody, nil
	case strings.HasPrefix(t, "text/"), t == "application/x-www-form-urlencoded":
		return textBody, nil
	case t == "application/octet-stream":
		return bytesBody, nil
	}
	return 0, unsupported(w, acceptChannel, t+"; want JSON, text or application/octet-stream")
}

// quote makes a text a JSON string. text must be UTF-8. Unlike json.Marshal
// it leaves <, > and & alone: this is no HTML.
func quote(text []byte) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(string(text)) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
