package ingest

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Mount adds ingest's routes: the HTTP API at a glance.
func (s *Service) Mount(r chi.Router) {
	r.Post("/v1/messages", s.count("messages", s.traced("/v1/messages",
		s.keyed(auth.Publish, s.postMessages, s.writeProblem))))
	r.Post("/v1/channels/{channel}", s.count("channels", s.traced("/v1/channels/{channel}",
		s.keyed(auth.Publish, s.postChannel, s.writeProblem))))
	httpx.Get(r, "/v1/channels/{channel}/messages", s.count("history",
		s.keyed(auth.History, s.getHistory, s.writeProblem)))
	r.Post("/notify", s.count("notify", s.traced("/notify", s.keyed(auth.Publish, s.notify, s.writeNotifyError))))
	s.mountApps(r)
	httpx.Get(r, "/openapi.json", s.count("openapi", s.getOpenAPI))
}

// A keyedHandler answers by itself, or returns the error to answer with.
type keyedHandler func(w http.ResponseWriter, r *http.Request, g auth.Grant) error

// keyed lets only requests with a valid key that may do this through, before a
// byte of the body is read, and answers errors with fail.
func (s *Service) keyed(scope auth.Scope, h keyedHandler, fail func(http.ResponseWriter, *http.Request,
	error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g, err := s.authenticate(r)
		if err == nil {
			err = may(g, scope)
		}
		if err == nil {
			err = h(w, r, g)
		}
		if err != nil {
			fail(w, r, err)
		}
	}
}

func (s *Service) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	s.refused(r, err)
	httpx.WriteProblem(w, r, s.log, err)
}

// count counts the requests of one route by code.
func (s *Service) count(route string, h http.HandlerFunc) http.HandlerFunc {
	requests := s.metrics.requests.MustCurryWith(map[string]string{"route": route})
	var ok atomic.Pointer[prometheus.Counter] // of 200; made by the first such answer
	count := func(code int) {
		if c := ok.Load(); c != nil && code == http.StatusOK {
			(*c).Inc()
			return
		}
		c := requests.WithLabelValues(strconv.Itoa(code))
		c.Inc()
		if code == http.StatusOK {
			ok.Store(&c)
		}
	}
	return func(w http.ResponseWriter, r *http.Request) { observe(w, r, h, count) }
}

// traced makes a span of each request to a route that publishes, below that of
// the request's traceparent. What the handler sends on then names this span.
func (s *Service) traced(route string, h http.HandlerFunc) http.HandlerFunc {
	if s.tracer == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) {
		parent := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := s.tracer.Start(parent, "POST "+route, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(
				attribute.String("http.request.method", r.Method), attribute.String("http.route", route)))
		defer span.End()
		observe(w, r.WithContext(ctx), h, func(code int) {
			span.SetAttributes(attribute.Int("http.response.status_code", code))
			if code >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, http.StatusText(code))
			}
		})
	}
}

// observe runs h and calls done with the code of its answer, also if it ends in a
// panic. The wrapped writer unwraps, so http.ResponseController reaches the
// connection through it. A writer that is wrapped already, as httpx.NewRouter's are,
// is not wrapped again.
func observe(w http.ResponseWriter, r *http.Request, h http.HandlerFunc, done func(code int)) {
	ww, ok := w.(middleware.WrapResponseWriter)
	if !ok {
		ww = middleware.NewWrapResponseWriter(w, r.ProtoMajor)
	}
	code := http.StatusInternalServerError // what recovery answers
	defer func() {
		if ww.Status() != 0 {
			code = ww.Status()
		}
		done(code)
	}()
	h(ww, r)
	code = http.StatusOK // what net/http answers where nothing was written
}
