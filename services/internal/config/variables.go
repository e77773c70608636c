package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// variables are those that a process or a compose file of Herald knows, without
// HERALD_ and without _FILE. Pods of all services get the same ones, so that one
// of another service is no mistake.
var variables = []string{
	"ALERT_WEBHOOK", "ALLOWED_ORIGINS", "ANONYMOUS_CHANNELS", "API_KEY", "APP_SECRET", "BIND", "BUILD_DATE",
	"BUILD_REVISION", "BUILD_VERSION", "CA", "COMPRESS_ABOVE", "CONFIG", "CONSOLE", "CONSOLE_URL",
	"CONNECTION_LIMIT_DRY_RUN", "DATA", "DB", "DRAIN",
	"DRAIN_DELAY", "ENGINEIO_3", "HEADLESS", "HEARTBEAT", "HOSTS", "JWKS", "JWT_AUDIENCE", "JWT_ISSUER", "JWT_SECRET",
	"LISTEN", "LOG_FORMAT", "LOG_LEVEL", "LOG_MAX_AGE", "LOG_MAX_BYTES",
	"MAX_CONNECTIONS_PER_IP", "MAX_MESSAGE_BYTES", "MAX_QUEUE_BYTES", "MAX_REQUEST_BYTES", "NATS_CA", "NATS_CERT",
	"NATS_CREDS", "NATS_KEY", "NATS_URL",
	"NOFILE", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_ISSUER", "OIDC_NAME", "OIDC_ROLES", "OIDC_ROLE_CLAIM",
	"OIDC_SCOPES", "OPS_LISTEN", "PORT", "RECENT_BYTES", "RECENT_MESSAGES", "REPLAY_BYTES", "REPLAY_MESSAGES",
	"REPLICAS", "SERVICES", "STREAM_MAX_AGE", "STREAM_MAX_BYTES", "SUBNET",
	"SYNC", "TLS_CERT", "TLS_KEY", "TOKEN", "TOKEN_COOKIE", "TRUSTED_PROXIES", "URL", "VERSION",
}

// secrets are those that may also be in a file named by _FILE.
var secrets = []string{"API_KEY", "APP_SECRET", "JWT_SECRET", "NATS_URL", "OIDC_CLIENT_SECRET", "TOKEN"}

const prefix = "HERALD_"

// Known reports whether a variable is one of Herald's.
func Known(name string) bool {
	bare, ours := strings.CutPrefix(name, prefix)
	secret, file := strings.CutSuffix(bare, "_FILE")
	return ours && (slices.Contains(variables, bare) || file && slices.Contains(secrets, secret))
}

// links are what Kubernetes and Docker set in every container for a service
// that is called herald-something.
var links = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)$`)

// Misspelt has a sentence about each variable of environ ("NAME=value") that is
// called like one of Herald's and is none. It never has a value.
func Misspelt(environ []string) (sentences []string) {
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, prefix+"TEST_") || Known(name) ||
			links.MatchString(name) {
			continue
		}
		sentence := name + " is not a variable of Herald's and changes nothing"
		if near := nearest(strings.TrimPrefix(name, prefix)); near != "" {
			sentence += fmt.Sprintf("; did you mean %s?", prefix+near)
		}
		sentences = append(sentences, sentence)
	}
	slices.Sort(sentences)
	return sentences
}

// nearest is the variable that name was most likely meant for; empty: none is
// like it.
func nearest(name string) string {
	candidates := slices.Clone(variables)
	for _, s := range secrets {
		candidates = append(candidates, s+"_FILE")
	}
	return Nearest(name, candidates)
}

// Nearest is the one of known that name was most likely meant for; empty: none is
// like it. Case, dashes and underscores do not count.
func Nearest(name string, known []string) string {
	bare := func(s string) string { return strings.ToLower(separators.Replace(s)) }
	best, least := "", max(2, len(name)/3)+1
	for _, v := range known {
		if d := distance(bare(name), bare(v)); d < least {
			best, least = v, d
		}
	}
	if best != "" {
		return best
	}
	for _, v := range known { // half of a name, or more than it
		a, b := bare(v), bare(name)
		if len(a) > 2 && len(b) > 2 && (strings.Contains(a, b) || strings.Contains(b, a)) && len(v) > len(best) {
			best = v
		}
	}
	return best
}

var separators = strings.NewReplacer("_", "", "-", "")

// distance is how many letters have to be inserted, deleted, exchanged, or
// swapped with their neighbour, to make a of b (optimal string alignment).
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[(i-1)%3], rows[i%3], rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}
