package proto_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// The golden files are the contract in bytes: web/test reads the same ones,
// so Go and JavaScript cannot drift apart. They are written by hand, and there
// is no flag that rewrites them: a test that fails here has found a change of
// the protocol.
var goldens = []struct {
	file   string
	value  any
	parse  func([]byte) (any, error)
	quoted bool // stands in PROTOCOL.md in these very bytes
}{
	{file: "message.json", value: message, parse: parseMessage, quoted: true},
	{file: "message-ephemeral.json", parse: parseMessage, value: proto.Message{
		Channel: "orders.eu", Event: "typing", Data: json.RawMessage(`"Anna"`), Sender: "shop",
		Time: "2026-11-22T16:58:36.123Z",
	}},
	{file: "message-body.json", value: withoutID(message), parse: parseMessage, quoted: true},
	{file: "welcome.json", parse: into[proto.Welcome], value: proto.Welcome{
		Type: proto.FrameWelcome, Connection: "c7f3a9", Heartbeat: 25, Channels: []string{"broadcast", "orders.*"},
		Resumed: true, ID: "mib3k2x9-1024",
	}},
	{file: "subscribed.json", parse: into[proto.Subscribed], value: proto.Subscribed{
		Type: proto.FrameSubscribed, Channel: "orders.*", ID: "mib3k2x9-1030",
	}},
	{file: "unsubscribed.json", parse: into[proto.Unsubscribed], value: proto.Unsubscribed{
		Type: proto.FrameUnsubscribed, Channel: "orders.*", Reason: "forbidden",
	}},
	{file: "authenticated.json", parse: into[proto.Authenticated], value: proto.Authenticated{
		Type: proto.FrameAuthenticated, Subject: "user-4711", Expires: "2026-11-22T17:58:36.000Z",
	}},
	{file: "gap.json", parse: into[proto.Gap], value: proto.Gap{
		Type: proto.FrameGap, Reason: proto.GapExpired, Since: "mib3k2x9-1024", ID: "mib3k2x9-2000",
		Channel: "orders.*",
	}},
	{file: "error.json", parse: into[proto.ErrorFrame], value: proto.ErrorFrame{
		Type: proto.FrameError, Code: proto.ErrorBadChannel, Detail: proto.CheckPattern("orders..eu").Error(),
		Channel: "orders..eu",
	}},
	{file: "position.json", parse: into[proto.Position], value: proto.Position{Type: proto.FramePosition,
		ID: "mib3k2x9-2047"}},
	{file: "pong.json", parse: into[proto.Pong], value: proto.Pong{Type: proto.FramePong}},
	{file: "client-subscribe.json", parse: parseClientFrame, quoted: true, value: proto.ClientFrame{
		Type: proto.FrameSubscribe, Channels: []string{"a", "b"}, Since: "mib3k2x9-1024",
	}},
	{file: "client-unsubscribe.json", parse: parseClientFrame, quoted: true, value: proto.ClientFrame{
		Type: proto.FrameUnsubscribe, Channel: "orders.*",
	}},
	{file: "client-ping.json", parse: parseClientFrame, quoted: true, value: proto.ClientFrame{Type: proto.FramePing}},
	{file: "client-auth.json", parse: parseClientFrame, quoted: true, value: proto.ClientFrame{Type: proto.FrameAuth,
		Token: "eyJ…"}},
	{file: "publication.json", parse: parsePublication, value: proto.Publication{
		Channel: "orders.eu", Data: json.RawMessage(`{"n":1}`), Event: "created", ID: "order-17", TTL: 3600,
	}},
	{file: "result.json", parse: into[proto.Result], value: proto.Result{
		Status: proto.StatusStored, ID: "mib3k2x9-1024", Channel: "orders.eu",
	}},
	{file: "problem.json", parse: into[proto.Problem], value: proto.Problem{
		Type: "urn:herald:problem:invalid-message", Title: "The message is not valid", Status: 400,
		Detail: "channel: missing; a message goes to a channel", Pointer: "/channel", Request: "9f1c2b7a4e",
	}},
}

var message = proto.Message{
	ID: "mib3k2x9-1024", Channel: "orders.eu", Event: proto.DefaultEvent, Data: json.RawMessage(`{"n":1}`),
	Sender: "shop", Time: "2026-11-22T16:58:36.123Z",
}

func withoutID(m proto.Message) proto.Message { m.ID = ""; return m }

func parseMessage(b []byte) (any, error)     { return proto.ParseMessage(b) }
func parseClientFrame(b []byte) (any, error) { return proto.ParseClientFrame(b) }
func parsePublication(b []byte) (any, error) {
	return proto.ParsePublication(b, proto.MaxMessageBytes)
}

// into reads a T and knows every member.
func into[T any](b []byte) (any, error) {
	var v T
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&v)
	return v, err
}

func TestGolden(t *testing.T) {
	protocol := readFile(t, "PROTOCOL.md")
	for _, g := range goldens {
		t.Run(g.file, func(t *testing.T) {
			want := readFile(t, filepath.Join("testdata", g.file))
			got, err := json.Marshal(g.value)
			if err != nil {
				t.Fatal(err)
			}
			if string(got)+"\n" != want {
				t.Errorf("marshalled\n got %s\nwant %s", got, want)
			}
			back, err := g.parse([]byte(want))
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			if !reflect.DeepEqual(back, g.value) {
				t.Errorf("parsed\n got %+v\nwant %+v", back, g.value)
			}
			if g.quoted && !strings.Contains(protocol, "\n"+want) {
				t.Errorf("PROTOCOL.md does not quote %s", want)
			}
		})
	}
}

// What the gateway splices together is what encoding/json would have written.
func TestGoldenMessageIsSpliced(t *testing.T) {
	body := message.AppendBody(nil)
	if got, want := string(body)+"\n", readFile(t, "testdata/message-body.json"); got != want {
		t.Errorf("body\n got %s\nwant %s", got, want)
	}
	id, err := proto.ParseCursor(message.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(proto.AppendWithID(nil, id, body))+"\n", readFile(t, "testdata/message.json"); got != want {
		t.Errorf("with id\n got %s\nwant %s", got, want)
	}
}

func TestEveryGoldenIsCovered(t *testing.T) {
	covered := map[string]bool{"names.json": true} // TestNames
	for _, g := range goldens {
		covered[g.file] = true
	}
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.IsDir() {
			continue // testdata/fuzz holds inputs that once failed
		}
		if !covered[filepath.Base(f)] {
			t.Errorf("%s is held by no test", f)
		}
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
