package httpx

import (
	"net/http/httptest"
	"testing"
)

func TestAPIKey(t *testing.T) {
	for _, c := range []struct{ key, authorization, want string }{
		{"", "", ""}, {"a", "", "a"}, {"a", "Bearer b", "a"}, {"", "Bearer b", "b"}, {"", "bearer  b ", "b"},
		{"", "Basic b", ""}, {"", "b", ""}, {"", "Bearer", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if c.key != "" {
			r.Header.Set("X-API-KEY", c.key)
		}
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if got := APIKey(r); got != c.want {
			t.Errorf("X-API-KEY %q, Authorization %q: got %q, want %q", c.key, c.authorization, got, c.want)
		}
	}
}
