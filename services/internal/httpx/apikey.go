package httpx

import (
	"errors"
	"net/http"
	"strings"

	"github.com/herald-push/herald/proto"
)

// APIKey is the key that a request carries: X-API-KEY, else the credentials
// of Authorization: Bearer; empty without. The error is a problem: a header
// that is there twice may have been added on the way, and nobody could say
// which one counts.
func APIKey(r *http.Request) (string, error) {
	secret, err := Single(r, "X-Api-Key")
	if err != nil || secret != "" {
		return secret, err
	}
	credentials, err := Single(r, "Authorization")
	if err != nil {
		return "", err
	}
	return bearer(credentials), nil
}

// Bearer is the credentials of Authorization: Bearer, whose scheme has no case
// (RFC 9110 section 11.1); empty without, and where the header is another
// scheme's, as proxies send them. One that came twice is an error.
func Bearer(r *http.Request) (string, error) {
	if len(r.Header["Authorization"]) > 1 {
		return "", errors.New("two or more headers Authorization: nobody could say which one counts")
	}
	return bearer(r.Header.Get("Authorization")), nil
}

func bearer(authorization string) string {
	scheme, secret, ok := strings.Cut(strings.TrimSpace(authorization), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// Single is the value of a header that may be there once; empty without. name
// is in canonical form. The error is a problem.
func Single(r *http.Request, name string) (string, error) {
	switch values := r.Header[name]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", proto.ProblemInvalidParameter.With(name + ": the header is there more than once")
	}
}
