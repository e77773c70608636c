package httpx

import (
	"net/http"
	"testing"
)

func TestTakesGzip(t *testing.T) {
	for _, c := range []struct {
		lines []string
		takes bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"gzip, deflate, br"}, true},
		{[]string{"br", "GZIP"}, true},
		{[]string{"gzip;q=0.5"}, true},
		{[]string{"gzip ; Q=1"}, true},
		{[]string{"gzip;q=0"}, false},
		{[]string{"br, gzip; q=0.000"}, false},
		{[]string{"gzip;q=x"}, false},
		{[]string{"gzipped, identity"}, false},
	} {
		if got := TakesGzip(&http.Request{Header: http.Header{"Accept-Encoding": c.lines}}); got != c.takes {
			t.Errorf("%q: got %v, want %v", c.lines, got, c.takes)
		}
	}
}
