package ask

import (
	"bytes"
	"net/http"
)

// Record has an HTTP handler answer a request that came over NATS, and returns what it answered.
func Record(h http.Handler, r *http.Request) HTTPAnswer {
	rec := recorder{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(&rec, r)
	out := HTTPAnswer{Status: rec.status, Header: map[string]string{}, Body: rec.body.Bytes()}
	for _, name := range []string{"Content-Type", "Retry-After", HeaderNext} {
		if v := rec.header.Get(name); v != "" {
			out.Header[name] = v
		}
	}
	return out
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	begun  bool
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if !r.begun {
		r.begun, r.status = true, status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.begun = true
	return r.body.Write(b)
}
