package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// A console whose buckets take long, as on a busy machine, is still starting; one that is refused, or waits for a
// minute, says why it does not work, and holds up nobody.
func TestHindrance(t *testing.T) {
	late := fmt.Errorf("look at a bucket: %w", context.DeadlineExceeded)
	refused := errors.New("no space left on device")
	for name, c := range map[string]struct {
		tries []error
		told  error // nil: it is starting
	}{
		"late":                    {tries: []error{late, late, late}},
		"late for a minute":       {tries: []error{late, late, late, late, late, late}, told: late},
		"refused":                 {tries: []error{refused}, told: refused},
		"late, and refused after": {tries: []error{late, refused}, told: refused},
	} {
		t.Run(name, func(t *testing.T) {
			var s Service
			tell := s.hindrance()
			for _, err := range c.tries {
				tell(err)
			}
			if err := s.starting(t.Context()); (err == nil) != (c.told != nil) {
				t.Errorf("starting: got %v", err)
			}
			if fault := s.fault.Load(); c.told != nil && (fault == nil || !errors.Is(*fault, c.told)) {
				t.Errorf("told: got %v, want %v", fault, c.told)
			}
		})
	}
}
