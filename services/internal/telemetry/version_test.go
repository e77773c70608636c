package telemetry_test

import (
	"regexp"
	"testing"

	"github.com/herald-push/herald/services/internal/telemetry"
)

func TestBuildDetails(t *testing.T) {
	want := regexp.MustCompile(`^\S+ \(revision .+, (built|commit of) .+, go1\S*, \w+/\w+\)$`)
	if got := telemetry.BuildDetails(); !want.MatchString(got) {
		t.Errorf("got %q", got)
	}
	defer func(v, r, d string) { telemetry.Version, telemetry.Revision, telemetry.Date = v, r, d }(telemetry.Version,
		telemetry.Revision, telemetry.Date)
	telemetry.Version, telemetry.Revision, telemetry.Date = "v1.2.3", "5c016e5", "2026-11-28T15:00:00Z"
	want = regexp.MustCompile(`^v1\.2\.3 \(revision 5c016e5, built 2026-11-28T15:00:00Z, go1\S*, \w+/\w+\)$`)
	if got := telemetry.BuildDetails(); !want.MatchString(got) {
		t.Errorf("stamped: got %q", got)
	}
}
