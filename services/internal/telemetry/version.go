package telemetry

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Stamped in by the linker (-X …telemetry.Version=v1.2.3). Without them the
// build's own information is shown: the module's version, and the commit with
// its time where the build saw a checkout.
var (
	Version  = ""
	Revision = "" // of the source
	Date     = "" // of the build, RFC 3339
)

// BuildVersion is Version, or what the build knows of itself.
func BuildVersion() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// BuildDetails is BuildVersion with all else that identifies the binary:
//
//	v1.2.3 (revision 5c016e5…, built 2026-11-28T15:00:00Z, go1.26.0, linux/amd64)
func BuildDetails() string {
	revision, date, modified := Revision, "built "+Date, false
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && revision == "":
				revision = s.Value
			case s.Key == "vcs.time" && Date == "":
				date = "commit of " + s.Value
			case s.Key == "vcs.modified":
				modified = s.Value == "true" && Revision == "" // else the linker was told
			}
		}
	}
	if date == "built " {
		date += "at an unknown time"
	}
	switch {
	case revision == "":
		revision = "unknown"
	case modified:
		revision += " with changes"
	}
	details := []string{"revision " + revision, date, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	return BuildVersion() + " (" + strings.Join(details, ", ") + ")"
}
