package httpx

import (
	"net/http"
	"strings"
)

// APIKey is the key that a request carries: X-API-KEY, else the credentials
// of Authorization: Bearer; empty without.
func APIKey(r *http.Request) string {
	if secret := r.Header.Get("X-Api-Key"); secret != "" {
		return secret
	}
	scheme, secret, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}
