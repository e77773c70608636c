package faults

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// table collects what the scenarios of this run came to.
var table struct {
	mu   sync.Mutex
	rows []row
}

type row struct {
	test string
	what string // one line: the fault, and how often
	v    verdict
	more string // what this scenario measured besides
}

// scenarios in the order of the table, which is not that of their running.
var scenarios = []string{
	"TestGatewayKilled", "TestConsoleOpen", "TestGatewaysRestarted", "TestPollingWithoutStickySessions",
	"TestIngestKilled", "TestIngestKilledInFlight", "TestPackInFlight", "TestBrokerKilled",
	"TestStreamLeaderKilled", "TestLeaderLostInFlight", "TestBrokerPartitioned", "TestBrokersRestarted",
	"TestLoggerKilled", "TestDiskFull", "TestStreamDiskFull", "TestStreamDiskFullElsewhere", "TestFilesExhausted",
	"TestPowerCut", "TestBurst", "TestNetwork", "TestSlowClients", "TestHerd", "TestRandom",
}

// report puts a scenario into the table.
func report(t testing.TB, v verdict, more, what string, args ...any) {
	t.Helper()
	if !slices.Contains(scenarios, t.Name()) {
		t.Errorf("%s has no place in the table", t.Name())
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	table.rows = append(table.rows, row{t.Name(), fmt.Sprintf(what, args...), v, more})
	slices.SortStableFunc(table.rows, func(a, b row) int {
		return slices.Index(scenarios, a.test) - slices.Index(scenarios, b.test)
	})
}

func markdown(rows []row) string {
	var b strings.Builder
	b.WriteString("| under load | published | received | lost | duplicated | out of order | longest stall |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		what := r.what
		if r.more != "" {
			what += "; " + r.more
		}
		stall := "–"
		if r.v.stall > 0 {
			stall = fmt.Sprintf("%.1f s", r.v.stall.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s |\n", what, r.v.published, r.v.received, r.v.lost,
			r.v.duplicated, r.v.reordered, stall)
	}
	return b.String()
}

const (
	beginMark = "<!-- faults:begin -->"
	endMark   = "<!-- faults:end -->"
)

var marked = regexp.MustCompile(`(?s)` + beginMark + `.*` + endMark)

// intoPage puts the table between the marks of a page.
func intoPage(page, table string, day time.Time) (string, error) {
	if !marked.MatchString(page) {
		return "", fmt.Errorf("no %s … %s in it", beginMark, endMark)
	}
	section := beginMark + "\n" + table + "\n`make faults`, " + day.Format(time.DateOnly) +
		". Received counts every client. The stall is the longest from a publisher's first attempt at a " +
		"message until a client that wanted it had it.\n" + endMark
	return marked.ReplaceAllLiteralString(page, section), nil
}

func writeTable(path, table string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	text, err := intoPage(string(b), table, time.Now().UTC())
	if err != nil {
		return fmt.Errorf("write the table into %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func TestIntoPage(t *testing.T) {
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	one := markdown(
		[]row{{what: "kill -9", more: "twice", v: verdict{published: 10, received: 20,
			stall: 1234 * time.Millisecond}}})
	if want := "| kill -9; twice | 10 | 20 | 0 | 0 | 0 | 1.2 s |\n"; !strings.HasSuffix(one, want) {
		t.Errorf("got %q, want it to end in %q", one, want)
	}
	text := "# Herald\n\n" + beginMark + "\n" + endMark + "\n\nThe rest.\n"
	for _, table := range []string{one, markdown([]row{{what: "SIGTERM", v: verdict{published: 1}}})} {
		var err error
		if text, err = intoPage(text, table, day); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text, "# Herald\n\n"+beginMark+"\n"+table) ||
			!strings.HasSuffix(text, endMark+"\n\nThe rest.\n") {
			t.Errorf("got %q, want the table between the marks, and nothing else changed", text)
		}
	}
	if strings.Contains(text, "kill -9") {
		t.Errorf("got %q, want the old table gone", text)
	}
	if _, err := intoPage("# Herald\n", one, day); err == nil {
		t.Error("without the marks: got no error")
	}
}
