package httpx_test

import (
	"testing"

	"github.com/herald-push/herald/services/internal/httpx"
)

func TestReach(t *testing.T) {
	for listen, want := range map[string]string{
		":5000":              "127.0.0.1:5000",
		"0.0.0.0:5000":       "127.0.0.1:5000",
		"[::]:5000":          "[::1]:5000",
		"[::1]:5000":         "[::1]:5000",
		"127.0.0.2:5000":     "127.0.0.2:5000",
		"192.0.2.7:80":       "192.0.2.7:80",
		"[fe80::1%eth0]:80":  "[fe80::1%eth0]:80",
		"localhost:http":     "localhost:http",
		"push.example.com:1": "push.example.com:1",
	} {
		if got := httpx.Reach(listen); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}
