package pusher

import (
	"crypto/hmac"
	"crypto/md5" // the HTTP API's body_md5; what protects is the HMAC over it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
)

// MaxClockSkew is how far the time of a request may be away ("Authentication").
const MaxClockSkew = 600 * time.Second

// Errors of VerifyRequest and VerifyChannel. They say no more than a stranger may
// know.
var (
	ErrSignature = errors.New("the signature is wrong: it is not that of this request with the app's secret")
	ErrKey       = errors.New("the app has no such key")
	ErrTimestamp = fmt.Errorf("auth_timestamp is not within %d seconds of this server's time",
		int(MaxClockSkew.Seconds()))
	ErrVersion = errors.New("auth_version: only 1.0 is known")
	ErrBodyMD5 = errors.New("body_md5 is not the MD5 of the body")
	// ErrNoSignature is of a subscription to a private channel whose auth is missing or not of the form KEY:SIGNATURE.
	ErrNoSignature = errors.New("auth: want KEY:SIGNATURE, which your backend makes for a private channel")
	ErrNoAuth      = errors.New(
		"want auth_key, auth_timestamp, auth_version and auth_signature in the query, and body_md5 with a body")
)

func sign(secret, text string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(text))
	return h.Sum(nil)
}

// same compares a signature in hexadecimal digits in constant time.
func same(sum []byte, digits string) bool {
	b, err := hex.DecodeString(digits)
	return err == nil && hmac.Equal(sum, b)
}

// VerifyRequest checks the signature of a request to the HTTP API, before its body
// is read; VerifyBody then does the body. SDKs differ in whether they sign the path
// as they send it or before they escape it, so either will do.
func (a *App) VerifyRequest(method string, u *url.URL, query url.Values, now time.Time) error {
	for name, values := range query {
		if strings.HasPrefix(name, "auth_") && len(values) != 1 {
			return fmt.Errorf("%s is given %d times: %w", name, len(values), ErrNoAuth)
		}
	}
	if query.Get("auth_key") == "" || query.Get("auth_signature") == "" || query.Get("auth_timestamp") == "" ||
		query.Get("auth_version") == "" {
		return ErrNoAuth
	}
	k := a.key(query.Get("auth_key"), now)
	if k == nil {
		return ErrKey
	}
	signed := query.Get("auth_signature")
	if !same(sign(k.Secret, toSign(method, u.Path, query)), signed) &&
		!same(sign(k.Secret, toSign(method, u.EscapedPath(), query)), signed) {
		return ErrSignature
	}
	if query.Get("auth_version") != "1.0" {
		return ErrVersion
	}
	seconds, err := strconv.ParseInt(query.Get("auth_timestamp"), 10, 64)
	if skew := int64(MaxClockSkew / time.Second); err != nil || seconds < now.Unix()-skew || seconds > now.Unix()+skew {
		return ErrTimestamp
	}
	return nil
}

// VerifyBody checks that the body is the one whose MD5 was signed. An empty body
// needs none. body is without the byte order mark that the client may have sent.
func VerifyBody(query url.Values, body []byte) error {
	digits := query.Get("body_md5")
	if len(body) == 0 && digits == "" {
		return nil
	}
	sum, marked := md5.Sum(body), md5.New()
	_, _ = marked.Write([]byte(proto.BOM)) // never fails
	_, _ = marked.Write(body)
	if len(query["body_md5"]) != 1 || !same(sum[:], digits) && !same(marked.Sum(nil), digits) {
		return ErrBodyMD5
	}
	return nil
}

// toSign is what the signature of a request is over ("Generating authentication
// signatures"): parameters in the order of their names, which are lower case, and
// not escaped.
func toSign(method, path string, query url.Values) string {
	var params []string
	for name, values := range query {
		if lower := strings.ToLower(name); lower != "auth_signature" {
			for _, v := range values {
				params = append(params, lower+"="+v)
			}
		}
	}
	slices.SortStableFunc(params, func(x, y string) int {
		xn, _, _ := strings.Cut(x, "=")
		yn, _, _ := strings.Cut(y, "=")
		return strings.Compare(xn, yn)
	})
	return method + "\n" + path + "\n" + strings.Join(params, "&")
}

// VerifyChannel checks what a client shows for a private channel: the key, a colon,
// and the HMAC of its socket's id and the channel.
func (a *App) VerifyChannel(socketID, channel, auth string, now time.Time) error {
	key, digits, ok := strings.Cut(auth, ":")
	k := a.key(key, now)
	switch {
	case !ok || key == "" || digits == "":
		return ErrNoSignature
	case k == nil:
		return ErrKey
	case !same(sign(k.Secret, socketID+":"+channel), digits):
		return errors.New("the signature is not that of " + socketID + ":" + channel + " with the app's secret")
	}
	return nil
}
