package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// proxyBefore starts a reverse proxy with one fault, or with none, and returns
// its URL. It ends with the script.
func proxyBefore(ts *testscript.TestScript, kind, target string) string {
	u, err := url.Parse(target)
	ts.Check(err)
	rp := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
			switch kind {
			case "host":
				r.Out.Host = "backend.internal"
			case "upgrade":
				r.Out.Header.Del("Upgrade")
				r.Out.Header.Del("Connection")
			}
		},
		FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			if kind == "buffer" && resp.Header.Get("Content-Type") == "text/event-stream" {
				resp.Body = &holding{ReadCloser: resp.Body}
			}
			return nil
		},
	}
	s := httptest.NewUnstartedServer(rp)
	if kind == "idle" { // cuts what has been silent for a second
		s.Listener = cutting{s.Listener}
	}
	s.Start()
	ts.Defer(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// holding gives nothing of a body on before its end.
type holding struct {
	io.ReadCloser
	all *bytes.Reader
}

func (h *holding) Read(p []byte) (int, error) {
	if h.all == nil {
		b, err := io.ReadAll(h.ReadCloser)
		if err != nil {
			return 0, err
		}
		h.all = bytes.NewReader(b)
	}
	return h.all.Read(p)
}

// cutting closes connections that are silent for a second.
type cutting struct{ net.Listener }

func (l cutting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	cut := &cuttable{Conn: c}
	cut.timer.Store(time.AfterFunc(time.Second, func() { _ = c.Close() }))
	return cut, nil
}

type cuttable struct {
	net.Conn
	timer atomic.Pointer[time.Timer]
}

func (c *cuttable) Write(b []byte) (int, error) {
	c.timer.Load().Reset(time.Second)
	return c.Conn.Write(b)
}
