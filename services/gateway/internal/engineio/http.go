package engineio

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// Error is why a request is refused, in the protocol's own words (the reference
// server's Server.errors).
type Error int

// The protocol's errors.
const (
	UnknownTransport   Error = 0
	UnknownSID         Error = 1
	BadHandshakeMethod Error = 2
	BadRequest         Error = 3
	Forbidden          Error = 4
	UnsupportedVersion Error = 5
)

var errorTexts = [...]string{
	"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request", "Forbidden",
	"Unsupported protocol version",
}

func (e Error) Error() string { return errorTexts[e] }

// Response is the answer to a request that is refused with this error.
func (e Error) Response() Response {
	status := http.StatusBadRequest
	if e == Forbidden {
		status = http.StatusForbidden
	}
	return Refusal(status, int(e), e.Error())
}

// Refusal is a response that a client understands as an error: {"code":1,"message":…}.
func Refusal(status, code int, text string) Response {
	b, _ := json.Marshal(struct { // plain values always marshal
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{code, text})
	return Response{Status: status, Body: b}
}

// Response is the answer to a request of a session that polls.
type Response struct {
	Status int
	Binary bool // Body is a payload of bytes (V3)
	Frames bool `json:",omitempty"` // Body is WebSocket frames: see Query.Frames
	Body   []byte
}

// IsUnknown reports whether there is no session that the request was for.
func (r Response) IsUnknown() bool {
	return r.Status == http.StatusBadRequest && bytes.Equal(r.Body, unknown.Body)
}

var unknown = UnknownSID.Response()

// Query is what the URL of a request says.
type Query struct {
	Version   Version
	WebSocket bool   // the transport; false: polling
	SID       string // empty: a session is to begin
	B64       bool   // V3: binary data comes and goes in base64
	// Script: the response is a script that calls ___eio[Script] (JSONP, of protocol v3; clients kept
	// it in v4 up to Socket.IO 4.2); empty: it is not.
	Script string
	// Turn is another one for each request (the parameter t, by which clients keep caches
	// away): a request that has that of the one before is the same, sent again by a proxy
	// or an HTTP library. Empty: the client does not say.
	Turn string
	// Relay is the WebSocket at another node for which that node asks; empty: a client asks.
	// No URL says it, nor what follows.
	Relay string
	// Frames: that node takes the answers to its GETs as the frames for its WebSocket. Without, as nodes of earlier
	// versions ask, they are payloads. Those may not be compressed.
	Frames bool `json:",omitempty"`
	// Deflates: that WebSocket negotiated permessage-deflate.
	Deflates bool `json:",omitempty"`
}

// maxTurn bounds the length of a client's t; a longer one is ignored.
const maxTurn = 64

var digits = regexp.MustCompile(`^[0-9]{1,9}$`)

// ParseQuery reads a URL's parameters; others than the protocol's are the caller's.
// allowV3 allows revision 3.
func ParseQuery(values url.Values, allowV3 bool) (Query, error) {
	q := Query{SID: values.Get("sid"), Turn: values.Get("t")}
	if len(q.Turn) > maxTurn {
		q.Turn = ""
	}
	switch values.Get("EIO") {
	case "4":
		q.Version = V4
	case "3":
		q.Version = V3
	default:
		return q, UnsupportedVersion
	}
	switch values.Get("transport") {
	case "polling":
	case "websocket":
		q.WebSocket = true
	default: // webtransport, too: it is not spoken
		return q, UnknownTransport
	}
	if q.Version == V3 && !allowV3 {
		return q, UnsupportedVersion
	}
	q.B64 = values.Get("b64") != ""
	if values.Has("j") && !q.WebSocket {
		if q.Script = values.Get("j"); !digits.MatchString(q.Script) {
			return q, BadRequest
		}
		q.B64 = true
	}
	return q, nil
}

// Write writes the response. jsonp is Query.Script.
func (r Response) Write(w http.ResponseWriter, post bool, jsonp string) {
	r.write(w, r.encode(w.Header(), post, jsonp))
}

// encode returns the body, and sets what the header says of it.
func (r Response) encode(h http.Header, post bool, jsonp string) []byte {
	h.Set("Cache-Control", "no-store")
	switch {
	case r.Status != http.StatusOK:
		h.Set("Content-Type", "application/json")
	case r.Binary:
		h.Set("Content-Type", "application/octet-stream")
	case jsonp != "" && post:
		h.Set("Content-Type", "text/html") // it lands in a hidden frame; anything else would be offered as a download
	case jsonp != "":
		h.Set("Content-Type", "text/javascript; charset=UTF-8")
		return script(jsonp, r.Body)
	default:
		h.Set("Content-Type", "text/plain; charset=UTF-8")
	}
	return r.Body
}

func (r Response) write(w http.ResponseWriter, body []byte) {
	w.WriteHeader(r.Status)
	_, _ = w.Write(body) // who hung up comes back with what it has
}

// WriteGet is Write for the answer to a GET, which is compressed if it has at least
// gzipAbove bytes; 0: it is not. No cache keeps the answer, so it needs no Vary header.
func (r Response) WriteGet(w http.ResponseWriter, gzipAbove int, jsonp string) {
	body := r.encode(w.Header(), false, jsonp)
	if gzipAbove > 0 && len(body) >= gzipAbove {
		w.Header().Set("Content-Encoding", "gzip")
		body = gzipped(body)
	}
	r.write(w, body)
}

// gzipper is what one compression needs: 800 KiB, which is why it is pooled.
type gzipper struct {
	out bytes.Buffer
	w   *gzip.Writer
}

var gzippers = sync.Pool{New: func() any {
	g := &gzipper{}
	g.w, _ = gzip.NewWriterLevel(&g.out, gzip.BestSpeed) // the level is a valid one
	return g
}}

// gzipped holds no gzipper while the client, which may be slow, is written to.
func gzipped(b []byte) []byte {
	g := gzippers.Get().(*gzipper)
	defer gzippers.Put(g)
	g.out.Reset()
	g.w.Reset(&g.out)
	_, _ = g.w.Write(b) // a bytes.Buffer takes everything
	_ = g.w.Close()
	return bytes.Clone(g.out.Bytes())
}

// script is a payload as JavaScript (protocol v3, "JSONP"). encoding/json escapes U+2028
// and U+2029, which JSON allows in a text and old JavaScript does not.
func script(index string, payload []byte) []byte {
	text, _ := json.Marshal(string(payload)) // a string always marshals
	return []byte("___eio[" + index + "](" + string(text) + ");")
}

// FromForm returns the payload of a form that a page without XMLHttpRequest posts: d=….
// Browsers change line feeds in forms, so clients send \n for a line feed and \\n for
// a backslash and n.
func FromForm(body []byte) ([]byte, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil || !values.Has("d") {
		return nil, BadRequest
	}
	return []byte(formEscapes.Replace(values.Get("d"))), nil
}

var formEscapes = strings.NewReplacer(`\\n`, `\n`, `\n`, "\n")
