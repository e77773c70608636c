package deploy

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/ingest"
	"go.yaml.in/yaml/v3"
)

var (
	fromLine  = regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)`)
	pinnedTag = regexp.MustCompile(`:[^:/]*\d[^:/]*$|:nonroot$`)
)

// What every image of Herald's keeps to: a pinned base, nothing but the binary
// on a base without shell, an unprivileged user, a health check of its own, its
// version stamped in, and labels that say where it comes from.
func TestDockerfiles(t *testing.T) {
	files, err := filepath.Glob("../../Dockerfile.*")
	if err != nil || len(files) != 5 {
		t.Fatalf("got %v, %v; want five Dockerfiles", files, err)
	}
	for _, file := range files {
		text := string(read(t, file))
		name := filepath.Base(file)
		bases := fromLine.FindAllStringSubmatch(text, -1)
		for _, b := range bases {
			if !pinnedTag.MatchString(b[1]) || strings.HasSuffix(b[1], ":latest") {
				t.Errorf("%s: the base %s is not pinned", name, b[1])
			}
		}
		if n := len(bases); n != 2 || !strings.HasPrefix(bases[n-1][1], "gcr.io/distroless/static-debian12:nonroot") {
			t.Errorf("%s: got the bases %v; want two, the last one distroless and static", name, bases)
		}
		final := text[strings.LastIndex(text, "\nFROM "):]
		for _, want := range []string{
			"\nUSER 65532:65532\n", "\nHEALTHCHECK ", `"-health"]`, "\nENTRYPOINT [", "\nEXPOSE ",
			"org.opencontainers.image.title=", "org.opencontainers.image.description=",
			"org.opencontainers.image.source=",
			"org.opencontainers.image.licenses=", `org.opencontainers.image.version="$VERSION"`,
			`org.opencontainers.image.revision="$REVISION"`,
		} {
			if !strings.Contains(final, want) {
				t.Errorf("%s: the last stage lacks %s", name, strings.TrimSpace(want))
			}
		}
		for _, want := range []string{"# syntax=docker/dockerfile:1\n", "\nENV GOWORK=off ",
			"telemetry.Version=$VERSION"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", name, strings.TrimSpace(want))
			}
		}
		if regexp.MustCompile(`(?m)^\s*(ADD|RUN .*(curl|wget|apt-get))\b`).MatchString(text) {
			t.Errorf("%s takes something from outside the sources and the bases", name)
		}
		if strings.Index(text, "go mod download") > strings.Index(text, "\nCOPY proto proto") {
			t.Errorf("%s copies sources before it downloads modules: each change would download them anew", name)
		}
	}
}

// composeService is what the test looks at in docker-compose.yml.
type composeService struct {
	Image           string
	Restart         string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	Privileged      bool
	NetworkMode     string `yaml:"network_mode"`
	Ports           []string
	Healthcheck     map[string]any
	Build           map[string]any
	PullPolicy      string `yaml:"pull_policy"`
	Environment     map[string]string
	DependsOn       map[string]struct{ Condition string } `yaml:"depends_on"`
	StopGracePeriod string                                `yaml:"stop_grace_period"`
	Deploy          struct {
		Resources struct{ Limits map[string]any }
	}
}

// Every container of docker-compose.yml is confined, limited and watched, and
// none is reachable from another machine unless somebody asks for it.
func TestComposeFile(t *testing.T) {
	var file struct {
		Services map[string]composeService
		Networks map[string]struct{ Internal bool }
	}
	if err := yaml.Unmarshal(read(t, "../../docker-compose.yml"), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) < 8 {
		t.Fatalf("got %d services; were they read at all?", len(file.Services))
	}
	for name, s := range file.Services {
		once := s.Restart == "no"
		for what, ok := range map[string]bool{
			"a pinned image": strings.Contains(s.Image, "${HERALD_VERSION") ||
				pinnedTag.MatchString(s.Image),
			"restart: unless-stopped, or no": once || s.Restart == "unless-stopped",
			"read_only":                      s.ReadOnly,
			"cap_drop: ALL":                  slices.Contains(s.CapDrop, "ALL"),
			"no-new-privileges":              slices.Contains(s.SecurityOpt, "no-new-privileges:true"),
			"no privileges":                  !s.Privileged && s.NetworkMode != "host",
			"limits of memory, cpus and pids": s.Deploy.Resources.Limits["memory"] != nil &&
				s.Deploy.Resources.Limits["cpus"] != nil && s.Deploy.Resources.Limits["pids"] != nil,
			"never pulled, if built here":      s.Build == nil || s.PullPolicy == "never",
			"a health check, here or in image": once || s.Build != nil || s.Healthcheck != nil,
		} {
			if !ok {
				t.Errorf("%s: want %s", name, what)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") && !strings.HasPrefix(p, "${HERALD_BIND:-127.0.0.1}:") {
				t.Errorf("%s: the port %s is published to other machines", name, p)
			}
		}
		for on, d := range s.DependsOn {
			if d.Condition != "service_healthy" && d.Condition != "service_completed_successfully" {
				t.Errorf("%s: it does not wait until %s is healthy", name, on)
			}
		}
		for variable, value := range s.Environment {
			if secret := strings.Contains(variable, "PASSWORD") || strings.Contains(variable, "SECRET") ||
				strings.Contains(variable, "API_KEY"); secret &&
				value != "${"+variable+":-}" && !strings.HasSuffix(variable, "_FILE") {
				t.Errorf("%s: %s has a default value: %q", name, variable, value)
			}
		}
	}
	for name, drain := range map[string]time.Duration{
		"ingest": ingest.DefaultConfig().Drain, "gateway": gateway.DefaultConfig().Drain,
	} {
		grace, err := time.ParseDuration(file.Services[name].StopGracePeriod)
		if want := drain + 10*time.Second; err != nil || grace < want {
			t.Errorf("%s: it is killed after %s (%v); want %s, the drain window and time to finish", name,
				grace, err, want)
		}
	}
	if !file.Networks["broker"].Internal {
		t.Error("NATS' network has a way out")
	}
	if conf := string(read(t, "../../deploy/compose/nats.conf")); !regexp.MustCompile(
		`(?m)^\s*sync_interval: always$`).MatchString(conf) {
		t.Error("nats.conf: want sync_interval: always; one server alone must not acknowledge what a power " +
			"cut can take")
	}
	if check := fmt.Sprint(file.Services["nats"].Healthcheck["test"]); !strings.Contains(check, "alive.sh") ||
		!strings.HasSuffix(check, "/healthz]") {
		t.Errorf("nats: the health check is %q; want NATS' plain /healthz, which alone names a stream that cannot be "+
			"stored, and alive.sh", check)
	}
}
