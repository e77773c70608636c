package monotonic_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-push/herald/services/internal/monotonic"
)

func TestElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := monotonic.Now()
		time.Sleep(3 * time.Second)
		if got := monotonic.Since(begin); got != 3*time.Second {
			t.Errorf("got %s, want 3s", got)
		}
	})
	if got := monotonic.Since(0); got < time.Hour {
		t.Errorf("0 is %s ago, want long ago", got)
	}
}
