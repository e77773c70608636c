package pusher_test

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/pusher/pushertest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// example is the app of the documentation's worked examples.
var example = pusher.App{ID: "3", Name: "shop", Prefix: "pusher.3",
	Keys: []pusher.Key{{Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}}}

const exampleBody = `{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}`

var exampleTime = time.Unix(1353088179, 0)

func exampleQuery() url.Values {
	return url.Values{
		"auth_key": {"278d425bdf160c739803"}, "auth_timestamp": {"1353088179"}, "auth_version": {"1.0"},
		"body_md5":       {"ec365a775a4cd0599faeb73354201b6f"},
		"auth_signature": {"da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"},
	}
}

var exampleURL = &url.URL{Path: "/apps/3/events"}

// "Worked authentication example", and what differs from it in one thing.
func TestRequestSignature(t *testing.T) {
	if err := example.VerifyRequest("POST", exampleURL, exampleQuery(), exampleTime); err != nil {
		t.Errorf("the example: %v", err)
	}
	if err := pusher.VerifyBody(exampleQuery(), []byte(exampleBody)); err != nil {
		t.Errorf("the example's body: %v", err)
	}
	for name, change := range map[string]func(q url.Values){
		"without a signature":   func(q url.Values) { q.Del("auth_signature") },
		"without a key":         func(q url.Values) { q.Del("auth_key") },
		"without a timestamp":   func(q url.Values) { q.Del("auth_timestamp") },
		"without a version":     func(q url.Values) { q.Del("auth_version") },
		"another key":           func(q url.Values) { q.Set("auth_key", "278d425bdf160c739804") },
		"another timestamp":     func(q url.Values) { q.Set("auth_timestamp", "1353088180") },
		"another body":          func(q url.Values) { q.Set("body_md5", strings.Repeat("0", 32)) },
		"one more parameter":    func(q url.Values) { q.Set("info", "user_count") },
		"two signatures":        func(q url.Values) { q.Add("auth_signature", "00") },
		"no hexadecimal digits": func(q url.Values) { q.Set("auth_signature", "x") },
		"half of the signature": func(q url.Values) { q.Set("auth_signature", q.Get("auth_signature")[:32]) },
	} {
		q := exampleQuery()
		change(q)
		if example.VerifyRequest("POST", exampleURL, q, exampleTime) == nil {
			t.Errorf("%s: it verifies", name)
		}
	}
	if example.VerifyRequest("GET", exampleURL, exampleQuery(), exampleTime) == nil ||
		example.VerifyRequest("POST", &url.URL{Path: "/apps/4/events"}, exampleQuery(), exampleTime) == nil {
		t.Error("another method or path verifies")
	}
	// "The server will only accept requests where the timestamp is within 600s of the current time."
	for seconds, ok := range map[int]bool{-600: true, 600: true, -601: false, 601: false} {
		if err := example.VerifyRequest("POST", exampleURL, exampleQuery(),
			exampleTime.Add(time.Duration(seconds)*time.Second)); (err == nil) != ok {
			t.Errorf("%d s away: %v", seconds, err)
		}
	}
	for _, q := range []url.Values{{}, {"body_md5": {"x"}},
		{"body_md5": {"ec365a775a4cd0599faeb73354201b6f", "ec365a775a4cd0599faeb73354201b6f"}}} {
		if pusher.VerifyBody(q, []byte(exampleBody)) == nil {
			t.Errorf("body with %v verifies", q)
		}
	}
}

// "Worked examples: private channel", and what is forged.
func TestChannelSignature(t *testing.T) {
	const auth = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
	now := time.Now()
	if err := example.VerifyChannel("1234.1234", "private-foobar", auth, now); err != nil {
		t.Errorf("the example: %v", err)
	}
	if got := pushertest.SignChannel(example.Keys[0], "1234.1234", "private-foobar"); got != auth {
		t.Errorf("got %s", got)
	}
	for _, forged := range []string{"", ":", "278d425bdf160c739803", "278d425bdf160c739803:", "x" + auth,
		auth[:len(auth)-1], auth[:len(auth)-1] + "5", auth + "00"} {
		if example.VerifyChannel("1234.1234", "private-foobar", forged, now) == nil {
			t.Errorf("%q verifies", forged)
		}
	}
	if example.VerifyChannel("1234.1235", "private-foobar", auth, now) == nil ||
		example.VerifyChannel("1234.1234", "private-foobaz", auth, now) == nil {
		t.Error("another socket or channel verifies")
	}
	rotated := example.Rotated(pusher.NewKey(now), time.Hour, now)
	if err := rotated.VerifyChannel("1234.1234", "private-foobar", auth, now.Add(time.Minute)); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	if rotated.VerifyChannel("1234.1234", "private-foobar", auth, now.Add(2*time.Hour)) == nil {
		t.Error("a key that has ended verifies")
	}
	if example.Keys[0].Expires != (time.Time{}) {
		t.Error("rotating changed the app it was made from")
	}
}

// Names and data come back as they were published.
func TestMappings(t *testing.T) {
	for _, name := range []string{"a", "foo-bar_1234@=,.;", "a.b", ".", "..", "a..b", ".a", "a.", "private-a...b"} {
		c, err := example.Channel(name)
		back, ok := example.ChannelName(c)
		if err != nil || !ok || back != name || proto.CheckChannel(c) != nil {
			t.Errorf("%s: got %s, back %s, %v", name, c, back, err)
		}
	}
	for _, bad := range []string{"", "a b", "#server", "ü", "a~b", "*", ">", strings.Repeat("a", 165),
		strings.Repeat(".", 164)} {
		if c, err := example.Channel(bad); err == nil {
			t.Errorf("%q: got %s", bad, c)
		}
	}
	for _, other := range []string{"pusher.3", "pusher.33.a", "other", "pusher.3.a/b", "pusher.3.a~b", "pusher.3." +
		strings.Repeat("a", 165)} {
		if name, ok := example.ChannelName(other); ok {
			t.Errorf("%s: got %s", other, name)
		}
	}
	for _, event := range []string{"created", `App\Events\Shipped`, `.a`, "a|b~c", `"it's" ` + "`x`",
		"~1", "client-x"} {
		e, err := pusher.Event(event)
		if back := pusher.EventName(e); err != nil || back != event || proto.CheckEvent(e) != nil {
			t.Errorf("%s: got %s, back %s, %v", event, e, back, err)
		}
	}
	for _, bad := range []string{"pusher:x", "pusher_internal:x", "a\nb", strings.Repeat("a", proto.MaxEventBytes+1)} {
		if e, err := pusher.Event(bad); err == nil {
			t.Errorf("%q: got %s", bad, e)
		}
	}
	for data, stored := range map[string]string{
		`{"n":1}`: `{"n":1}`, `hello`: `"hello"`, `123`: `123`, `"quoted"`: `"\"quoted\""`, ``: `""`, ` {}`: `" {}"`,
		`[1, 2]`: `[1, 2]`, `{"a":1,"a":2}`: `"{\"a\":1,\"a\":2}"`,
		`null`: `null`, `1e400`: `1e400`, "{\"s\":\"\u2028<é\"}": "{\"s\":\"\u2028<é\"}",
	} {
		sent, _ := proto.Marshal(data)
		got := pusher.Data(sent)
		if string(got) != stored {
			t.Errorf("%s: stored %s, want %s", data, got, stored)
		}
		var back string
		if err := json.Unmarshal(pusher.AppendData(nil, got), &back); err != nil || back != data {
			t.Errorf("%s: comes back as %q, %v", data, back, err)
		}
	}
}

func TestApps(t *testing.T) {
	var apps pusher.Apps
	now := time.Now()
	if err := apps.Put(example); err != nil {
		t.Fatal(err)
	}
	if apps.ByKey("278d425bdf160c739803", now) == nil || apps.ByKey("x", now) != nil || apps.ByID("3") == nil {
		t.Error("the app is not found by key and id")
	}
	other := example
	other.ID, other.Name, other.Prefix = "4", "other", "pusher.4"
	if apps.Put(other) == nil {
		t.Error("another app has the same key")
	}
	other.Keys = []pusher.Key{pusher.NewKey(now)}
	for _, prefix := range []string{"pusher.3", "pusher.3.x", "pusher"} {
		other.Prefix = prefix
		if apps.Put(other) == nil {
			t.Errorf("another app has channels below %s", prefix)
		}
	}
	rotated := example.Rotated(pusher.NewKey(now), 0, now)
	if err := apps.Put(rotated); err != nil {
		t.Fatal(err)
	}
	if apps.ByKey("278d425bdf160c739803", now.Add(time.Second)) != nil {
		t.Error("a key that has ended is found")
	}
	apps.Delete("3")
	if apps.ByID("3") != nil || apps.ByKey(rotated.Keys[1].Key, now) != nil {
		t.Error("a revoked app is found")
	}
	for name, change := range map[string]func(*pusher.App){
		"no id": func(a *pusher.App) { a.ID = "" }, "an id with a slash": func(a *pusher.App) { a.ID = "a/b" },
		"no name":                  func(a *pusher.App) { a.Name = "" },
		"a prefix with a wildcard": func(a *pusher.App) { a.Prefix = "a.*" },
		"a long prefix":            func(a *pusher.App) { a.Prefix = strings.Repeat("a", 91) },
		"a negative rate":          func(a *pusher.App) { a.Rate = -1 }, "no key": func(a *pusher.App) { a.Keys = nil },
		"a short secret": func(a *pusher.App) { a.Keys = []pusher.Key{{Key: "abcdefgh", Secret: "s3cr3t"}} },
	} {
		a := example
		change(&a)
		if err := apps.Put(a); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a stranger sends neither panics nor is taken for what it is not.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"event":"pusher:subscribe","data":{"channel":"a","auth":"k:s"}}`,
		`{"event":"pusher:subscribe","data":"{\"channel\":\"a\"}"}`, `{"event":"client-x","channel":"c","data":[]}`,
		`{}`,
		`[]`, `{"event":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := pusher.Parse(b)
		if err != nil {
			return
		}
		if in.Event == "" {
			t.Errorf("%q: no event", b)
		}
		if c, err := example.Channel(in.Name); err == nil {
			if back, ok := example.ChannelName(c); !ok || back != in.Name || proto.CheckChannel(c) != nil {
				t.Errorf("%q becomes %q, and that %q", in.Name, c, back)
			}
		}
		if e, err := pusher.Event(in.Event); err == nil && pusher.EventName(e) != in.Event {
			t.Errorf("%q becomes %q, and that %q", in.Event, e, pusher.EventName(e))
		}
	})
}

// Only what was signed verifies.
func FuzzSignature(f *testing.F) {
	f.Add("/apps/3/events", exampleQuery().Encode(), int64(1353088179))
	f.Fuzz(func(t *testing.T, path, query string, now int64) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		at := time.Unix(now%1e12, 0)
		before := q.Get("auth_signature")
		if example.VerifyRequest("POST", &url.URL{Path: path}, q, at) != nil {
			return
		}
		stamp, err := strconv.ParseInt(q.Get("auth_timestamp"), 10, 64)
		if err != nil || stamp < at.Unix()-600 || stamp > at.Unix()+600 {
			t.Errorf("%s verifies at %d", query, at.Unix())
		}
		pushertest.SignRequest(example.Keys[0], "POST", path, q, nil, time.Unix(stamp, 0))
		if !strings.EqualFold(q.Get("auth_signature"), before) {
			t.Errorf("%s %s is not what was signed", path, query)
		}
	})
}

// Data is a string for clients, whatever it is here, and the same again from there.
func FuzzData(f *testing.F) {
	f.Add(`{"n":1}`)
	f.Add(`"x"`)
	f.Fuzz(func(t *testing.T, data string) {
		sent, err := json.Marshal(data)
		var want, got string
		if err != nil || json.Unmarshal(sent, &want) != nil {
			return
		}
		stored := pusher.Data(sent)
		if !json.Valid(stored) {
			t.Fatalf("%q is stored as %q", data, stored)
		}
		if err := json.Unmarshal(pusher.AppendData(nil, stored), &got); err != nil || got != want {
			t.Errorf("%q comes back as %q, %v", want, got, err)
		}
	})
}
