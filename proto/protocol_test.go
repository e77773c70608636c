package proto_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// PROTOCOL.md is what writers of clients read, so its tables are held to the
// code like any other file.

var closeRow = regexp.MustCompile("(?m)^\\| (\\d{4}) \\| `([a-z-]+)` \\| (come back|stay away) \\|")

func TestProtocolListsCloseCodes(t *testing.T) {
	var got, want []string
	for _, m := range closeRow.FindAllStringSubmatch(readFile(t, "PROTOCOL.md"), -1) {
		got = append(got, strings.Join(m[1:], " "))
	}
	for _, c := range proto.CloseCodes() {
		then := "stay away"
		if c.ComeBack() {
			then = "come back"
		}
		want = append(want, fmt.Sprintf("%d %s %s", uint16(c), c, then))
	}
	if !slices.Equal(got, want) {
		t.Errorf("close codes\nPROTOCOL.md %q\nproto       %q", got, want)
	}
}

func TestCloseCodesThatAreNotListed(t *testing.T) {
	for _, c := range []struct {
		code     proto.CloseCode
		comeBack bool
	}{{1005, true}, {1006, true}, {1010, true}, {1015, true}, {3000, true}, {4098, true}, {4499, true},
		{4598, false}, {4599, false}, {4999, false}, {5000, true}} {
		if got := c.code.ComeBack(); got != c.comeBack {
			t.Errorf("%d comes back: got %v, want %v", c.code, got, c.comeBack)
		}
		if got, want := c.code.String(), strconv.Itoa(int(c.code)); got != want {
			t.Errorf("name of %d: got %q, want %q", c.code, got, want)
		}
	}
}

var (
	problemRow  = regexp.MustCompile("(?m)^\\| ((?:`[a-z-]+`(?:, )?)+) \\| (\\d{3}(?:, \\d{3})*) \\|")
	problemName = regexp.MustCompile("`([a-z-]+)`")
)

func TestProtocolListsProblems(t *testing.T) {
	text := readFile(t, "PROTOCOL.md")
	start := strings.Index(text, "| `type`, after `urn:herald:problem:` |")
	end := strings.Index(text, "## Receive over WebSocket")
	if start < 0 || end < start {
		t.Fatal("PROTOCOL.md has no table of problems")
	}
	var got, want []string
	for _, row := range problemRow.FindAllStringSubmatch(text[start:end], -1) {
		statuses := strings.Split(row[2], ", ")
		for i, name := range problemName.FindAllStringSubmatch(row[1], -1) {
			got = append(got, name[1]+" "+statuses[min(i, len(statuses)-1)]) // one status may stand for all names
		}
	}
	if source := readFile(t, "problem.go"); strings.Count(source, "= problem(") != len(proto.Problems()) {
		t.Errorf("problem.go declares %d kinds, export_test.go lists %d", strings.Count(source, "= problem("),
			len(proto.Problems()))
	}
	for _, p := range proto.Problems() {
		name, ok := strings.CutPrefix(p.Type, "urn:herald:problem:")
		if !ok || p.Title == "" {
			t.Errorf("problem %+v has a wrong type or no title", p)
		}
		want = append(want, name+" "+strconv.Itoa(p.Status))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("problems\nPROTOCOL.md %q\nproto       %q", got, want)
	}
}

func TestProblemCopies(t *testing.T) {
	p := proto.ProblemInvalidMessage.With("channel: missing").At("/3/channel")
	if got, want := p.Error(), "The message is not valid: channel: missing"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if p.Pointer != "/3/channel" || proto.ProblemInvalidMessage.Detail != "" ||
		proto.ProblemInvalidMessage.Pointer != "" {
		t.Errorf("With or At changed the original: %+v", proto.ProblemInvalidMessage)
	}
	if got := proto.ProblemForbidden.Error(); got != proto.ProblemForbidden.Title {
		t.Errorf("without detail: got %q", got)
	}
}
