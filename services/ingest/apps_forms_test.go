package ingest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/pusher/pushertest"
)

// signed is the query of a signed request.
func (s *sdk) signed(method, path, query, body string) url.Values {
	s.Helper()
	q, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
	if err != nil {
		s.Fatal(err)
	}
	pushertest.SignRequest(s.key, method, path, q, []byte(body), time.Now())
	return q
}

const eventBody = `{"name":"e","channel":"a","data":"1"}`

// post sends an event with a query that is signed already.
func (s *sdk) post(query, body string, headers ...string) answered {
	s.Helper()
	return s.do(http.MethodPost, "/apps/3/events?"+query, strings.NewReader(body), append(headers, "X-API-KEY:")...)
}

// What SDKs and people send otherwise than the documentation's examples is understood.
func TestPusherOtherForms(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	query := func(body string) url.Values { return s.signed(http.MethodPost, "/apps/3/events", "", body) }
	capitals := query(eventBody)
	capitals.Set("auth_signature", strings.ToUpper(capitals.Get("auth_signature")))
	escaped := ""
	for name, values := range query(eventBody) {
		escaped += "&" + name + "="
		for i := range len(values[0]) {
			escaped += fmt.Sprintf("%%%02x", values[0][i])
		}
	}
	marked := proto.BOM + eventBody
	list := "" // as the SDK for Python sends it: sorted by name, and not escaped
	q := s.signed(http.MethodGet, "/apps/3/channels", "filter_by_prefix=a;b,=@", "")
	for _, name := range slices.Sorted(maps.Keys(q)) {
		list += "&" + name + "=" + q.Get(name)
	}
	batch := `{"batch":[` + strings.Repeat(eventBody+",", 99) + eventBody + `]}`
	for name, a := range map[string]answered{
		"a signature in capitals":                    s.post(capitals.Encode(), eventBody),
		"every byte of a value escaped":              s.post(escaped[1:], eventBody),
		"a byte order mark, which the MD5 is of":     s.post(query(marked).Encode(), marked),
		"a byte order mark, which the MD5 is not of": s.post(query(eventBody).Encode(), marked),
		"another content type": s.post(query(eventBody).Encode(), eventBody,
			"Content-Type: text/plain"),
		"an event name of 200 characters": s.event(`{"name":"` + strings.Repeat("e", 200) +
			`","channel":"a","data":"1"}`),
		"a batch of more than ten":   s.call(http.MethodPost, "/apps/3/batch_events", "", batch, time.Now()),
		"a prefix with a ; as it is": s.do(http.MethodGet, "/apps/3/channels?"+list[1:], nil, "X-API-KEY:"),
	} {
		if a.status != http.StatusOK {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
}

// What would be dropped otherwise is refused: parameters where the call has none, a compressed body.
func TestPusherParametersRefused(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	q := s.signed(http.MethodPost, "/apps/3/events", "", eventBody)
	s.post(q.Encode(), eventBody, "Content-Encoding: gzip").problem(t, proto.ProblemMediaType)
	for _, query := range []string{"info=subscription_count", "name=e&data=1&channel=a", "channels[]=a"} {
		q := s.signed(http.MethodPost, "/apps/3/events", query, eventBody)
		p := s.post(q.Encode(), eventBody).problem(t, proto.ProblemInvalidParameter)
		if !strings.Contains(p.Detail, "body") {
			t.Errorf("%s: got %s", query, p.Detail)
		}
	}
	for path, query := range map[string]string{"/apps/3/channels": "prefix=a",
		"/apps/3/channels/a": "filter_by_prefix=a"} {
		s.call(http.MethodGet, path, query, "", time.Now()).problem(t, proto.ProblemInvalidParameter)
	}
	twice := s.signed(http.MethodGet, "/apps/3/channels", "info=&info=subscription_count", "")
	s.do(http.MethodGet, "/apps/3/channels?"+twice.Encode(), nil, "X-API-KEY:").problem(t,
		proto.ProblemInvalidParameter)
	s.nothingStored()
}
