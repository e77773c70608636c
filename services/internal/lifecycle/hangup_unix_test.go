//go:build unix

package lifecycle_test

import (
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/lifecycle"
	"github.com/herald-push/herald/services/internal/logtest"
)

func TestOutliveHangup(t *testing.T) {
	var out logtest.Buffer
	stop := lifecycle.OutliveHangup(slog.New(slog.NewTextHandler(&out, nil)))
	defer stop()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(),
		"hangup"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the hangup was not noticed")
		}
	}
}
