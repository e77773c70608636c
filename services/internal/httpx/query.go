package httpx

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Query is the parameters of a request's URL. What is not understood is an
// error that a client may see: net/url drops a pair with a bare % or a
// semicolon, and a name that nobody asks for is a misspelt one. The names in
// many may be repeated, those in once may not. Values are not in the error: one
// may be a token.
func Query(r *http.Request, many []string, once ...string) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	known := "; known parameters are " + strings.Join(slices.Concat(many, once), ", ")
	if len(many)+len(once) == 0 {
		known = "; this call takes none"
	}
	fault := func(format string, args ...any) error { return fmt.Errorf(format+known, args...) }
	if strings.Contains(r.URL.RawQuery, ";") {
		return nil, fault("the query has a semicolon; & separates parameters, and ; in a value is written %%3B")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault("the query has a %% without two hexadecimal digits; %% itself is written %%25")
	}
	for name, values := range query {
		switch {
		case slices.Contains(many, name):
		case !slices.Contains(once, name):
			return nil, fault("%.60q is not a parameter", name)
		case len(values) > 1:
			return nil, fault("%s is given %d times", name, len(values))
		}
	}
	return query, nil
}
