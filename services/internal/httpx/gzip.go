package httpx

import (
	"net/http"
	"strconv"
	"strings"
)

// TakesGzip reports whether the client names gzip in Accept-Encoding (RFC 9110 section
// 12.5.3). A weight of zero is a refusal, and so is one that cannot be read.
func TakesGzip(r *http.Request) bool {
	for _, line := range r.Header["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			coding, parameter, weighted := strings.Cut(part, ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			name, text, _ := strings.Cut(parameter, "=")
			weight, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			return !weighted || err == nil && strings.EqualFold(strings.TrimSpace(name), "q") && weight > 0
		}
	}
	return false
}
