// Package deploy holds what runs Herald against the code: the manifests,
// docker-compose.yml, the images, dashboards and alerts.
package deploy

import (
	"fmt"
	"os"
	"testing"

	"github.com/herald-push/herald/services/internal/proctest"
	"go.uber.org/goleak"
)

// TestMain takes the binaries away that tests built, and fails a run that
// leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
