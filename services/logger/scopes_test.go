package logger

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
)

// The log is for keys that may read it, and publishers' addresses only for keys
// for everything.
func TestScopes(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	r.fill(orders()...)
	const address = "203.0.113.7"
	for _, c := range []struct {
		name      string
		o         keystore.Options
		status    int
		addresses bool
	}{
		{"new", keystore.Options{Channels: []string{">"}}, http.StatusForbidden, false},
		{"history", keystore.Options{Channels: []string{">"}, May: []auth.Scope{auth.History}}, http.StatusForbidden,
			false},
		{"log", keystore.Options{Channels: []string{">"}, May: []auth.Scope{auth.Log}}, http.StatusOK, false},
		{"nearly", keystore.Options{Channels: []string{">"}, May: []auth.Scope{auth.Publish, auth.History, auth.Log}},
			http.StatusOK, false},
		{"narrow", keystore.Options{Channels: []string{"orders.>"}, May: auth.Scopes}, http.StatusOK, false},
		{"everything", keystore.Options{Channels: []string{">"}, May: auth.Scopes}, http.StatusOK, true},
	} {
		secret, _, err := w.keys.Add(context.Background(), c.name, c.o, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r.eventually("the key is known", func() bool { status, _, _ := r.get(secret); return status != 401 })
		for _, format := range []string{"json", "ndjson", "csv"} {
			status, header, body := r.get(secret, "format", format)
			if status != c.status || strings.Contains(string(body), address) != c.addresses {
				t.Errorf("%s, %s: got %d %s, want %d, addresses %v", c.name, format, status, body, c.status,
					c.addresses)
			}
			if status == http.StatusForbidden && r.problem(status, header, body).Detail == "" {
				t.Errorf("%s: no word of why: %s", c.name, body)
			}
		}
	}
	for _, format := range []string{"json", "csv"} {
		if _, _, body := r.get(envKey, "format", format); !strings.Contains(string(body), address) {
			t.Errorf("the key of the environment, %s: got %s", format, body)
		}
	}
}

// HEAD answers as GET does, without the body; of an export nothing is read.
func TestHead(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(orders()...)
	for _, query := range []string{"", "?limit=x", "?format=csv", "?format=ndjson"} {
		status, header, _ := r.getRaw(envKey, "/v1/log"+query)
		req, err := http.NewRequest(http.MethodHead, r.url+"/v1/log"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-KEY", envKey)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status || resp.Header.Get("Content-Type") != header.Get("Content-Type") {
			t.Errorf("%s: got %d %s, want %d %s", query, resp.StatusCode, resp.Header.Get("Content-Type"), status,
				header.Get("Content-Type"))
		}
	}
}
