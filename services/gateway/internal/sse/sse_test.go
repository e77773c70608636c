package sse

import (
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

func TestEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"message":   {Message("e-7", []byte(`{"id":"e-7"}`)), "id: e-7\ndata: {\"id\":\"e-7\"}\n\n"},
		"ephemeral": {Message("", []byte(`{"data":1}`)), "data: {\"data\":1}\n\n"},
		"line breaks": {Message("", []byte("{\n\"a\":\r\n1,\r\"b\":2}")),
			"data: {\ndata: \"a\":\ndata: 1,\ndata: \"b\":2}\n\n"},
		"ends in a line": {Message("", []byte("1\n")), "data: 1\ndata: \n\n"},
		"control":        {Control("pong", "", proto.Pong{Type: "pong"}), "event: pong\ndata: {\"type\":\"pong\"}\n\n"},
		"control with a place": {Control("welcome", "e-3", struct{}{}),
			"id: e-3\nevent: welcome\ndata: {}\n\n"},
		"close": {Close(proto.CloseGoingAway),
			"event: close\ndata: {\"type\":\"close\",\"code\":1001,\"reason\":\"going-away\"}\n\n"},
		"place": {Place("e-9"), "id: e-9\n\n"},
		"retry": {Retry(1500 * time.Millisecond), "retry: 1500\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if string(tc.got) != tc.want {
				t.Errorf("got %q, want %q", tc.got, tc.want)
			}
		})
	}
}

// A reader that joins data lines by line feeds gets the body back, up to the
// kind of its line breaks.
func FuzzMessage(f *testing.F) {
	f.Add("{\n\"a\":\r\n1}")
	f.Add("\r\r\n\n")
	f.Fuzz(func(t *testing.T, body string) {
		got := string(Message("e-1", []byte(body)))
		rest, ok := strings.CutPrefix(got, "id: e-1\n")
		if !ok || !strings.HasSuffix(rest, "\n\n") {
			t.Fatalf("got %q, want an id line first and an empty line last", got)
		}
		var lines []string
		for _, l := range strings.Split(strings.TrimSuffix(rest, "\n\n"), "\n") {
			data, ok := strings.CutPrefix(l, "data: ")
			if !ok || strings.ContainsRune(data, '\r') {
				t.Fatalf("got line %q, want data without a carriage return", l)
			}
			lines = append(lines, data)
		}
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body)
		if joined := strings.Join(lines, "\n"); joined != want {
			t.Fatalf("got %q back, want %q", joined, want)
		}
	})
}
