package httpx

import (
	"net/http/httptest"
	"testing"

	"github.com/herald-push/herald/proto"
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
		if got, err := APIKey(r); got != c.want || err != nil {
			t.Errorf("X-API-KEY %q, Authorization %q: got %q, %v, want %q", c.key, c.authorization, got, err, c.want)
		}
	}
	// Twice is refused, even where both say the same.
	for _, name := range []string{"X-API-KEY", "Authorization"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Add(name, "Bearer a")
		r.Header.Add(name, "Bearer a")
		if got, err := APIKey(r); got != "" || Problem(err) == nil ||
			Problem(err).Type != proto.ProblemInvalidParameter.Type {
			t.Errorf("%s twice: got %q, %v", name, got, err)
		}
	}
}

func TestBearer(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    string
		fault   bool
	}{
		{nil, "", false}, {[]string{"Bearer a"}, "a", false}, {[]string{"bearer a"}, "a", false},
		{[]string{"BeArEr\ta"}, "", false}, {[]string{" Bearer  a "}, "a", false},
		{[]string{"Basic a"}, "", false}, {[]string{"Bearer"}, "", false}, {[]string{"Bearera"}, "", false},
		{[]string{"Bearer a", "Bearer b"}, "", true},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"] = c.headers
		if got, err := Bearer(r); got != c.want || (err != nil) != c.fault {
			t.Errorf("%q: got %q, %v; want %q", c.headers, got, err, c.want)
		}
	}
}
