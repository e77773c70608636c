package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){"herald": main})
}

// leakFree fails a run that leaves a goroutine behind, and takes the binaries
// away that tests built.
type leakFree struct{ *testing.M }

func (m leakFree) Run() int {
	code := m.M.Run()
	proctest.Clean()
	if err := goleak.Find(natstest.Leaks()...); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
