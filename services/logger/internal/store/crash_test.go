package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// crashEnv names the file that a copy of this test binary writes until it is killed.
const crashEnv = "HERALD_TEST_CRASH_FILE"

func crashPath() string { return os.Getenv(crashEnv) }

const crashBatch = 200 / fewer

// appendUntilKilled appends batches, and prints the last sequence of each
// after Append returned.
func appendUntilKilled(path string) {
	ctx := context.Background()
	s, err := Open(ctx, path)
	if err != nil {
		panic(err)
	}
	last, err := s.LastSeq(ctx, epochA)
	for err == nil {
		if _, err = s.Append(ctx, rows(epochA, last+1, last+crashBatch)); err == nil {
			last += crashBatch
			fmt.Println(last)
		}
	}
	panic(err)
}

func TestKillDuringABatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "herald.db")
	acknowledged := 0
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 4 + round { // then it is in the middle of the next one
			if !lines.Scan() {
				t.Fatalf("round %d: the child ended: %v", round, lines.Err())
			}
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before the signal reached it counts too
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				acknowledged = n
			}
		}
		_ = cmd.Wait() // killed, as asked

		s := open(t, path)
		checkIntegrity(t, s)
		got := scalar(t, s, "SELECT count(*) FROM messages")
		if last := scalar(t, s, "SELECT max(seq) FROM messages"); got != last || got%crashBatch != 0 ||
			got < acknowledged {
			t.Errorf("round %d: got %d rows up to %d, want whole batches without holes, at least %d rows",
				round, got, last, acknowledged)
		}
		if found := all(t, s, Filter{Search: "full", Limit: MaxLimit}); len(found) != got {
			t.Errorf("round %d: the search finds %d rows, want %d", round, len(found), got)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
