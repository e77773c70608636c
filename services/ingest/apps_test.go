package ingest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/pusher/pushertest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// sdk is a server SDK of Pusher.
type sdk struct {
	*rig
	app   pusher.App
	key   pusher.Key
	store *keystore.AppStore
}

// newSDK makes an app and waits until ingest knows it.
func newSDK(t testing.TB, r *rig, rate float64) *sdk {
	t.Helper()
	js, err := jetstream.New(r.nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.MakeApps(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	k := pusher.Key{Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}
	s := &sdk{r, pusher.App{ID: "3", Name: "shop", Prefix: "pusher.3", Keys: []pusher.Key{k}, Rate: rate}, k, store}
	if err := store.Add(t.Context(), s.app); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the app is known",
		func() bool { return r.apps.ByID("3") != nil && r.appsLoaded.Load() })
	return s
}

// Ingest is not ready before its apps are, unless they are not to be had.
func TestReadyWithApps(t *testing.T) {
	r := start(t, startNATS(t))
	newSDK(t, r, 0)
	r.appsLoaded.Store(false)
	if err := r.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "apps") {
		t.Errorf("without apps: ready: %v", err)
	}
	r.appsLate.Store(true)
	if err := r.ready(t.Context()); err != nil {
		t.Errorf("when they are not to be had: ready: %v", err)
	}
}

// call sends a signed request.
func (s *sdk) call(method, path, query, body string, at time.Time) answered {
	s.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		s.Fatal(err)
	}
	pushertest.SignRequest(s.key, method, path, q, []byte(body), at)
	return s.do(method, path+"?"+q.Encode(), strings.NewReader(body), "X-API-KEY:", "Content-Type: application/json")
}

func (s *sdk) event(body string) answered {
	s.Helper()
	return s.call(http.MethodPost, "/apps/3/events", "", body, time.Now())
}

func TestPusherEvents(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	for body, want := range map[string]string{
		`{"name":"created","channel":"orders","data":"{\"n\":1}"}`: `pusher.3.orders created {"n":1}`,
		`{"name":"App\\Events\\Shipped","channels":["private-a..b"],"data":"hello"}`: `pusher.3.private-a.~.b ` +
			`App|Events|Shipped "hello"`,
		`{"name":"e","channels":["a","a"],"data":{"n":2},"socket_id":"1234.1234"}`: `pusher.3.a e {"n":2}`,
		`{"name":"e","channel":"` + strings.Repeat("a", 164) + `","data":"7","info":""}`: `pusher.3.` +
			strings.Repeat("a", 164) + ` e 7`,
	} {
		before := len(stored(t, s.nc))
		if a := s.event(body); a.status != http.StatusOK || strings.TrimSpace(a.body) != "{}" {
			t.Errorf("%s: got %d %s", body, a.status, a.body)
			continue
		}
		received, m := s.last()
		if want := map[bool]string{true: "1234.1234"}[strings.Contains(body, "socket_id")]; received.Except != want {
			t.Errorf("%s: stored except for %q", body, received.Except)
		}
		if got := fmt.Sprintf("%s %s %s", m.Channel, m.Event, m.Data); got != want || m.Sender != "shop" ||
			received.Source == "" || len(stored(t, s.nc)) != before+1 {
			t.Errorf("%s: stored %s by %s, want %s once by shop", body, got, m.Sender, want)
		}
	}
	a := s.call(http.MethodPost, "/apps/3/batch_events", "",
		`{"batch":[{"name":"e","channel":"a","data":"1"},{"name":"e","channel":"b","data":"2"}]}`, time.Now())
	if _, m := s.last(); a.status != http.StatusOK || strings.TrimSpace(a.body) != "{}" || m.Channel != "pusher.3.b" {
		t.Errorf("batch: got %d %s", a.status, a.body)
	}
}

// What breaks a rule of "HTTP API reference" is refused as a whole, with its place.
func TestPusherEventsRefused(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	many := strings.TrimSuffix(strings.Repeat(`"a",`, 101), ",")
	for _, c := range []struct {
		rule, body string
		problem    *proto.Problem
		pointer    string
	}{
		{"name (required)", `{"channel":"a","data":"1"}`, proto.ProblemInvalidMessage, "/name"},
		{"data (required)", `{"name":"e","channel":"a"}`, proto.ProblemInvalidMessage, "/data"},
		{"a channel", `{"name":"e","data":"1"}`, proto.ProblemInvalidMessage, "/channel"},
		{"one or the other", `{"name":"e","data":"1","channel":"a","channels":["b"]}`, proto.ProblemInvalidMessage,
			"/channels"},
		{"channels: limited to 100", `{"name":"e","data":"1","channels":[` + many + `]}`, proto.ProblemInvalidMessage,
			"/channels"},
		{"channel naming conventions", `{"name":"e","data":"1","channel":"a b"}`, proto.ProblemInvalidMessage,
			"/channel"},
		{"channel naming conventions, of several", `{"name":"e","data":"1","channels":["a","a","#b"]}`,
			proto.ProblemInvalidMessage, "/channels/2"},
		{"users", `{"name":"e","data":"1","channels":["#server-to-user-7"]}`, proto.ProblemInvalidMessage,
			"/channels/0"},
		{"presence", `{"name":"e","data":"1","channel":"presence-a"}`, proto.ProblemInvalidMessage, "/channel"},
		{"encrypted", `{"name":"e","data":"1","channel":"private-encrypted-a"}`, proto.ProblemInvalidMessage,
			"/channel"},
		{"the protocol's own events", `{"name":"pusher:x","data":"1","channel":"a"}`, proto.ProblemInvalidMessage,
			"/name"},
		{"socket_id", `{"name":"e","data":"1","channel":"a","socket_id":"x"}`, proto.ProblemInvalidMessage,
			"/socket_id"},
		{"info", `{"name":"e","data":"1","channel":"a","info":"cache"}`, proto.ProblemInvalidParameter, ""},
		{"unknown member", `{"name":"e","data":"1","channel":"a","t/l":1}`, proto.ProblemInvalidMessage, "/t~1l"},
		{"a JSON hash", `[]`, proto.ProblemInvalidMessage, ""},
		{"name (String)", `{"name":5,"data":"1","channel":"a"}`, proto.ProblemInvalidMessage, "/name"},
		{"at most 200 characters", `{"name":"` + strings.Repeat("e", 201) + `","data":"1","channel":"a"}`,
			proto.ProblemInvalidMessage, "/name"},
		{"array of channel names", `{"name":"e","data":"1","channels":"a"}`, proto.ProblemInvalidMessage, "/channels"},
		{"array of strings", `{"name":"e","data":"1","channels":["a",1]}`, proto.ProblemInvalidMessage, "/channels"},
		{"socket_id (String)", `{"name":"e","data":"1","channel":"a","socket_id":1.5}`, proto.ProblemInvalidMessage,
			"/socket_id"},
		{"info: a comma-separated list", `{"name":"e","data":"1","channel":"a","info":["user_count"]}`,
			proto.ProblemInvalidMessage, "/info"},
		{"no JSON", `hello`, proto.ProblemInvalidJSON, ""},
		{"two values", `{"name":"e","data":"1","channel":"a"} {}`, proto.ProblemInvalidJSON, ""},
		{"nothing", ``, proto.ProblemInvalidJSON, ""},
		{"half a character", `{"name":"e","data":"\ud83d","channel":"a"}`, proto.ProblemInvalidMessage, "/data"},
		{"half a character in a name", `{"name":"\ud83d","data":"1","channel":"a"}`, proto.ProblemInvalidMessage,
			"/name"},
		{"half a character in JSON in a string", `{"name":"e","data":"{\"a\":\"\ud83d\"}","channel":"a"}`,
			proto.ProblemInvalidMessage, "/data"},
		{"no UTF-8 in a name", "{\"name\":\"\xff\",\"data\":\"1\",\"channel\":\"a\"}", proto.ProblemInvalidJSON, ""},
		{"no UTF-8 in JSON in a string", "{\"name\":\"e\",\"data\":\"{\\\"a\\\":\\\"\xff\\\"}\",\"channel\":\"a\"}",
			proto.ProblemInvalidJSON, ""},
		{"a member twice", `{"name":"e","data":"1","channel":"a","d\u0061ta":"2"}`, proto.ProblemInvalidMessage, ""},
		{"exact names", `{"Name":"e","data":"1","channel":"a"}`, proto.ProblemInvalidMessage, "/Name"},
		{"413: a larger data parameter", `{"name":"e","data":"` + strings.Repeat("x", 70_000) + `","channel":"a"}`,
			proto.ProblemTooLarge, "/data"},
	} {
		p := s.event(c.body).problem(t, c.problem)
		if p.Pointer != c.pointer || strings.Contains(p.Detail, "json:") || strings.Contains(p.Detail, "Go ") {
			t.Errorf("%s: got %s at %q, want %q", c.rule, p.Detail, p.Pointer, c.pointer)
		}
	}
	for body, pointer := range map[string]string{`{"batch":[]}`: "/batch",
		`{"batch":[{"name":"e","channel":"a","data":"1"},{"name":"e","channel":"a"}]}`: "/batch/1/data",
		`{"batch":[{"name":"e","channels":["a"],"data":"1"}]}`:                         "/batch/0/channels",
		`{"Batch":[]}`: "/Batch", `{"batch":[{"name":"e","channel":"a","DATA":"1"}]}`: "/batch/0/DATA",
		`{"batch":[{"name":"e","channel":"a","data":"1"},{"name":"e","channel":"a","channel":"b","data":"1"}]}`: "",
		`{"batch":{}}`: "/batch", `{"batch":[{"name":"e","channel":"a","data":"\ud83d"}]}`: "/batch/0/data",
		`[]`: "", `{"batch":[null]}`: "/batch/0/name",
		`{"batch":[{"name":"e","channel":"a","data":"1"},{"name":"e","channel":2,"data":"1"}]}`: "/batch/1/channel",
		`{"batch":[{"name":"e","channel":"a","data":"1","ttl":1}]}`:                             "/batch/0/ttl",
		`{"batch":[{"name":"e","channel":"a b","data":"1"}]}`:                                   "/batch/0/channel"} {
		if p := s.call(http.MethodPost, "/apps/3/batch_events", "", body, time.Now()).problem(t,
			proto.ProblemInvalidMessage); p.Pointer != pointer {
			t.Errorf("%s: got %q", body, p.Pointer)
		}
	}
	s.nothingStored()
}

// Who does not have the secret, or repeats what somebody signed long ago, is refused
// before the body counts.
func TestPusherSignaturesRefused(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	const body = `{"name":"e","channel":"a","data":"1"}`
	for _, away := range []time.Duration{-601 * time.Second, 610 * time.Second} {
		if p := s.call(http.MethodPost, "/apps/3/events", "", body, time.Now().Add(away)).problem(t,
			proto.ProblemUnauthorized); !strings.Contains(p.Detail, "600 seconds") {
			t.Errorf("%s away: got %s", away, p.Detail)
		}
	}
	sign := func(change func(q url.Values), path, sent string) answered {
		q := url.Values{}
		pushertest.SignRequest(s.key, http.MethodPost, path, q, []byte(body), time.Now())
		change(q)
		return s.do(http.MethodPost, "/apps/3/events?"+q.Encode(), strings.NewReader(sent), "X-API-KEY:")
	}
	keep := func(url.Values) {}
	for name, a := range map[string]answered{
		"unsigned":           s.do(http.MethodPost, "/apps/3/events", strings.NewReader(body)),
		"an API key instead": s.do(http.MethodPost, "/apps/3/events?auth_key="+envKey, strings.NewReader(body)),
		"of another path":    sign(keep, "/apps/4/events", body),
		"of another body":    sign(keep, "/apps/3/events", strings.Replace(body, "1", "2", 1)),
		"without the MD5":    sign(func(q url.Values) { q.Del("body_md5") }, "/apps/3/events", body),
		"another signature": sign(func(q url.Values) { q.Set("auth_signature", strings.Repeat("0", 64)) },
			"/apps/3/events", body),
		"another key": sign(func(q url.Values) { q.Set("auth_key", "278d425bdf160c739804") }, "/apps/3/events", body),
		"another app": s.call(http.MethodPost, "/apps/4/events", "", body, time.Now()),
	} {
		if a.status != http.StatusUnauthorized || strings.Contains(a.body, s.key.Secret) {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	if err := s.store.Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the app is gone", func() bool { return s.apps.ByID("3") == nil })
	s.event(body).problem(t, proto.ProblemUnauthorized)
	s.nothingStored()
}

// Requests that somebody repeats within the time are stored again: the protocol has no
// nonce. With an idempotency key they are stored once.
func TestPusherRepeated(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	q, body := url.Values{}, `{"name":"e","channel":"a","data":"1"}`
	pushertest.SignRequest(s.key, http.MethodPost, "/apps/3/events", q, []byte(body), time.Now())
	for range 2 {
		if a := s.do(http.MethodPost, "/apps/3/events?"+q.Encode(), strings.NewReader(body),
			"Idempotency-Key: k"); a.status != http.StatusOK {
			t.Fatalf("got %d %s", a.status, a.body)
		}
	}
	if n := len(stored(t, s.nc)); n != 1 {
		t.Errorf("stored %d times", n)
	}
}

// An app's rate counts events by channel.
func TestPusherRate(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 3)
	if a := s.event(`{"name":"e","channels":["a","b","c"],"data":"1"}`); a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	s.event(`{"name":"e","channels":["a","b","c"],"data":"1"}`).problem(t, proto.ProblemTooManyRequests)
}

// Counts come from all gateways that there are.
func TestPusherChannels(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	ask := func(path, query string) string {
		a := s.call(http.MethodGet, path, query, "", time.Now())
		return fmt.Sprint(a.status, " ", strings.TrimSpace(a.body))
	}
	if got := ask("/apps/3/channels", ""); got != `200 {"channels":{}}` {
		t.Errorf("without gateways: got %s", got)
	}
	for _, answer := range []string{`{"channels":{"a":2,"b":1}}`, `{"channels":{"a":1}}`, `{"channels":{}}`} {
		sub, err := s.nc.Subscribe(pusher.SubjectChannels, func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	for _, c := range []struct{ path, query, want string }{
		{"/apps/3/channels", "", `200 {"channels":{"a":{},"b":{}}}`},
		{"/apps/3/channels", "info=subscription_count",
			`200 {"channels":{"a":{"subscription_count":3},"b":{"subscription_count":1}}}`},
		{"/apps/3/channels/a", "", `200 {"occupied":true}`},
		{"/apps/3/channels/private-a@,;=", "", `200 {"occupied":false}`},
		{"/apps/3/channels/a", "info=subscription_count", `200 {"occupied":true,"subscription_count":3}`},
	} {
		if got := ask(c.path, c.query); got != c.want {
			t.Errorf("%s?%s: got %s, want %s", c.path, c.query, got, c.want)
		}
	}
	a := s.event(`{"name":"e","channels":["a","z"],"data":"1","info":"subscription_count"}`)
	if got := strings.TrimSpace(
		a.body); got != `{"channels":{"a":{"subscription_count":3},"z":{"subscription_count":0}}}` {
		t.Errorf("info of an event: got %s", got)
	}
	// "The hash maps from channel name to a hash of attributes for that channel (may be empty)": user_count is of
	// presence channels alone.
	for asked, want := range map[string]string{"user_count": `{"channels":{"a":{}}}`,
		"user_count,subscription_count": `{"channels":{"a":{"subscription_count":3}}}`} {
		a := s.event(`{"name":"e","channel":"a","data":"1","info":"` + asked + `"}`)
		if got := strings.TrimSpace(a.body); got != want {
			t.Errorf("info %s of an event: got %d %s, want %s", asked, a.status, got, want)
		}
	}
	for path, query := range map[string]string{"/apps/3/channels": "info=user_count",
		"/apps/3/channels/a": "info=cache", "/apps/3/channels/presence-a/users": ""} {
		s.call(http.MethodGet, path, query, "", time.Now()).problem(t, proto.ProblemInvalidParameter)
	}
	s.call(http.MethodPost, "/apps/3/users/7/terminate_connections", "", "", time.Now()).problem(t,
		proto.ProblemInvalidParameter)
}

// Nobody is waited for when as many gateways have answered as they know of each other.
func TestPusherChannelsOfAllGateways(t *testing.T) {
	s := newSDK(t, start(t, startNATS(t)), 0)
	_, err := s.nc.Subscribe(pusher.SubjectChannels, func(m *nats.Msg) {
		for _, answer := range []string{`{"channels":{"a":2}}`, `{"channels":{"a":1},"gateways":2}`,
			`{"channels":{"a":4},"gateways":1}`} {
			_ = m.Respond([]byte(answer))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	a := s.call(http.MethodGet, "/apps/3/channels/a", "info=subscription_count", "", time.Now())
	if got := strings.TrimSpace(a.body); got != `{"occupied":true,"subscription_count":3}` {
		t.Errorf("got %s; the third answer is of nobody that the first two know", got)
	}
}
