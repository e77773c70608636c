// Package pushertest signs what backends sign of the Pusher protocol, as their SDKs do, for tests.
package pushertest

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/pusher"
)

// SignRequest completes the query of a request to the HTTP API ("Generating authentication signatures").
func SignRequest(k pusher.Key, method, path string, query url.Values, body []byte, now time.Time) {
	query.Set("auth_key", k.Key)
	query.Set("auth_timestamp", strconv.FormatInt(now.Unix(), 10))
	query.Set("auth_version", "1.0")
	if len(body) > 0 {
		sum := md5.Sum(body)
		query.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	query.Del("auth_signature")
	type param struct{ name, value string }
	var params []param
	for name, values := range query {
		for _, v := range values {
			if name := strings.ToLower(name); name != "auth_signature" {
				params = append(params, param{name, v})
			}
		}
	}
	slices.SortStableFunc(params, func(x, y param) int { return strings.Compare(x.name, y.name) })
	var text []string
	for _, p := range params {
		text = append(text, p.name+"="+p.value)
	}
	query.Set("auth_signature", sign(k, method+"\n"+path+"\n"+strings.Join(text, "&")))
}

// SignChannel is the auth that a backend gives a client for a private channel.
func SignChannel(k pusher.Key, socketID, channel string) string {
	return k.Key + ":" + sign(k, socketID+":"+channel)
}

func sign(k pusher.Key, text string) string {
	h := hmac.New(sha256.New, []byte(k.Secret))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}
