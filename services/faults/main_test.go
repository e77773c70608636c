package faults

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	// What the processes are made of, so that a change of it makes go test run
	// these tests anew instead of quoting the last result.
	_ "github.com/herald-push/herald/services/admin"
	_ "github.com/herald-push/herald/services/gateway"
	_ "github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	_ "github.com/herald-push/herald/services/logger"
)

var (
	long     = flag.Bool("faults.long", false, "every scenario at full length")
	intoFile = flag.Bool("faults.write", false, "write the table into docs/explanation/faults.md")
	seed     = flag.Uint64("faults.seed", 0, "seed of the random scenario; 0: a new one, which is printed")
	open     = flag.Bool("faults.console", false,
		"every scenario with a console open that looks at everything all the time")
	duration = flag.Duration("faults.duration", 0,
		"how long the random scenario lasts; 0: 30 s, or 5 min with -faults.long")
)

// times is how often, or how many, in the long and in the short form.
func times(inLong, inShort int) int {
	if *long {
		return inLong
	}
	return inShort
}

func TestMain(m *testing.M) {
	flag.Parse()
	begin := time.Now()
	code := m.Run()
	proctest.Clean()
	if text := markdown(table.rows); len(table.rows) > 0 {
		fmt.Printf("\n%s\nin %s\n", text, time.Since(begin).Round(time.Second))
		if *intoFile && code == 0 {
			if err := writeTable("../../docs/explanation/faults.md", text); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(natstest.Leaks()...); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
