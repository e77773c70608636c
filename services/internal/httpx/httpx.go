// Package httpx is the HTTP edge that all services share: bounded bodies in,
// JSON or an RFC 9457 problem out, middleware, client addresses, graceful
// serving.
package httpx

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/herald-push/herald/proto"
)

// WriteJSON answers with v as one line of JSON.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	b, err := proto.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("httpx: %T does not marshal: %v", v, err)) // a programming fault; Recover answers 500
	}
	WriteLine(w, status, append(b, '\n'))
}

// WriteLine answers with a line of JSON that ends with a newline.
func WriteLine(w http.ResponseWriter, status int, line []byte) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = applicationJSON, noStore
	w.WriteHeader(status)
	_, _ = w.Write(line) // a client that hung up misses only its own answer
}

// Values of headers that every answer has. They are shared: a slice of its own
// for each would be two allocations in ten of a short request. Never changed,
// and of exact capacity, so that Header.Add copies.
var (
	applicationJSON = []string{"application/json"}
	noStore         = []string{"no-store"}
	nosniff         = []string{"nosniff"}
	noReferrer      = []string{"no-referrer"}
)

// WriteProblem answers with err as a problem document. A *proto.Problem (or
// what wraps one) is shown as it is; any other error is logged under the
// request's id and shown as "internal" without its text.
func WriteProblem(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := Problem(err)
	if p == nil {
		log.ErrorContext(r.Context(), "request failed", "request", RequestID(r), "method", r.Method, "path", r.URL.Path,
			"err", err)
		p = proto.ProblemInternal
	}
	// the detail may quote the call
	log.DebugContext(r.Context(), "call refused", "request", RequestID(r), "method", r.Method, "path", r.URL.Path,
		"status", p.Status, "problem", p.Type)
	out := *p
	out.Request = RequestID(r)
	b, err := proto.Marshal(out)
	if err != nil {
		panic(fmt.Sprintf("httpx: problem does not marshal: %v", err))
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	switch out.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="herald"`)
	case http.StatusUpgradeRequired:
		if r.ProtoMajor == 1 { // RFC 9110 section 15.5.22 wants it, HTTP/2 has no such header
			h.Set("Connection", "Upgrade")
			h.Set("Upgrade", "websocket")
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", "1")
		}
	}
	w.WriteHeader(out.Status)
	_, _ = w.Write(append(b, '\n'))
}

// Problem maps an error to the problem that a client may see, or nil where it
// must see only "internal".
func Problem(err error) *proto.Problem {
	var p *proto.Problem
	if errors.As(err, &p) {
		return p
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return proto.ProblemTooLarge.With(fmt.Sprintf("at most %d bytes are allowed", tooLarge.Limit))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // the socket's: the client was slow
		return proto.ProblemTimeout
	}
	// A context that ended is ours: NATS took too long, or the service stops.
	// The caller did nothing wrong and should try again.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return proto.ProblemUnavailable
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return proto.ProblemInvalidJSON.With("the body ended early")
	}
	return nil
}

// NewRouter makes a chi router with the middleware that every service has:
// request id, panic recovery, security headers, HEAD wherever there is GET (the
// server drops the body), and problems for unknown paths and methods.
func NewRouter(log *slog.Logger) *chi.Mux {
	r := chi.NewRouter()
	r.Use(requestID, recoverPanic(log), securityHeaders, middleware.GetHead)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, log, proto.ProblemNotFound.With(r.URL.Path+slashHint(r.URL.Path)))
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		allow(w, r)
		detail := r.Method + " " + r.URL.Path
		if allowed := w.Header()["Allow"]; len(allowed) > 0 {
			detail += "; it takes " + strings.Join(allowed, ", ")
		}
		WriteProblem(w, r, log, proto.ProblemMethod.With(detail))
	})
	return r
}

// Get adds a route for GET, and for HEAD, which is answered alike: net/http
// leaves the body out (RFC 9110 section 9.3.2).
func Get(r chi.Router, pattern string, h http.HandlerFunc) {
	r.Get(pattern, h)
	r.Head(pattern, h)
}

// slashHint says how a channel with slashes is written, to whoever wrote it as
// it is.
func slashHint(path string) string {
	channel, found := strings.CutPrefix(path, "/v1/channels/")
	channel = strings.TrimSuffix(channel, "/messages")
	if !found || !strings.Contains(channel, "/") {
		return ""
	}
	return "; a / in a channel's name is written %2F: /v1/channels/" + strings.ReplaceAll(channel, "/", "%2F")
}

// allow says which methods the path has (RFC 9110 section 15.5.6); chi
// passes them to its own handler only.
func allow(w http.ResponseWriter, r *http.Request) {
	rctx := chi.RouteContext(r.Context())
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete} {
		match := func(m string) bool { return rctx.Routes.Match(chi.NewRouteContext(), m, path) }
		if match(m) || m == http.MethodHead && match(http.MethodGet) {
			w.Header().Add("Allow", m)
		}
	}
}

type requestIDKey struct{}

// RequestID is the id under which this request is logged; the client has it
// as X-Request-Id and in problems.
func RequestID(r *http.Request) string { return RequestIDOf(r.Context()) }

// RequestIDOf is RequestID by the request's context.
func RequestIDOf(ctx context.Context) string {
	if v, ok := ctx.Value(requestIDKey{}).(*visited); ok {
		return v.header[0]
	}
	return ""
}

// visited is the context of a request that has an id: one piece of memory for the
// context, and for the value of the header.
type visited struct {
	context.Context
	header [1]string
}

func (v *visited) Value(key any) any {
	if key == (requestIDKey{}) {
		return v
	}
	return v.Context.Value(key)
}

// requestID gives each request an id of our own making: one taken from the
// client could forge log lines.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visited{Context: r.Context()}
		var id [16]byte
		v.header[0] = string(appendHex(id[:0], mathrand.Uint64()))
		w.Header()["X-Request-Id"] = v.header[:]
		next.ServeHTTP(w, r.WithContext(v))
	})
}

// appendHex appends 16 hex digits.
func appendHex(b []byte, n uint64) []byte {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], n)
	return hex.AppendEncode(b, raw[:])
}

// NewID makes an id of 16 hex digits for a connection, which nobody can guess.
// Requests have cheaper ones.
func NewID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return hex.EncodeToString(b[:])
}

func recoverPanic(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer func() {
				v := recover()
				if v == nil {
					return
				}
				if v == http.ErrAbortHandler {
					panic(v)
				}
				log.Error("handler panicked", "request", RequestID(r), "method", r.Method, "path", r.URL.Path, "panic",
					fmt.Sprint(v), "stack", string(debug.Stack()))
				if ww.Status() != 0 { // the answer has begun: cut it off, so that it does not look complete
					panic(http.ErrAbortHandler)
				}
				WriteProblem(w, r, log, proto.ProblemInternal)
			}()
			next.ServeHTTP(ww, r)
		})
	}
}

func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Content-Type-Options"], h["Referrer-Policy"] = nosniff, noReferrer
		next.ServeHTTP(w, r)
	})
}

// RetryAfter sets the header in whole seconds, at least 1.
func RetryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", fmt.Sprint(max(1, int((d+time.Second-1)/time.Second))))
}
