package deploy

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/logger"
)

// `kubectl apply -f` and `-k` are the same: the kustomization lists every file
// that -f reads, changes nothing, and is not read by -f itself.
func TestDeployBothWays(t *testing.T) {
	var k map[string]any
	decode(t, filepath.Join(deploy, "Kustomization"), &k)
	var listed []string
	for _, r := range k["resources"].([]any) {
		listed = append(listed, r.(string))
	}
	if want := applied(t); !slices.Equal(listed, want) {
		t.Errorf("Kustomization lists %q, -f reads %q", listed, want)
	}
	for key := range k {
		if !slices.Contains([]string{"apiVersion", "kind", "resources"}, key) {
			t.Errorf("Kustomization has %q: -k would apply something else than -f", key)
		}
	}
}

// The examples are components: an overlay inside deploy/ would be a cycle. What
// they patch is there, and so are the files that they name.
func TestDeployExamples(t *testing.T) {
	objects, known := manifests(t), map[string]bool{}
	for _, s := range (&natsx.Config{}).Settings() {
		known[s.Env] = true
	}
	found, err := filepath.Glob(filepath.Join(deploy, "examples", "*", "kustomization.yaml"))
	if err != nil || len(found) == 0 {
		t.Fatalf("deploy/examples has no components: %v", err)
	}
	for _, path := range found {
		var k struct {
			Kind      string
			Resources []string
			Patches   []struct{ Path string }
		}
		decode(t, path, &k)
		if k.Kind != "Component" {
			t.Errorf("%s: got kind %q, want Component", path, k.Kind)
		}
		for _, r := range k.Resources {
			decode(t, filepath.Join(filepath.Dir(path), r), &object{})
		}
		for _, p := range k.Patches {
			if p.Path == "" {
				continue // it stands there, and names its targets itself
			}
			var o object
			decode(t, filepath.Join(filepath.Dir(path), p.Path), &o)
			find(t, objects, o.id())
			for name := range o.Data {
				if strings.HasPrefix(name, "HERALD_") && !known[name] {
					t.Errorf("%s: nobody knows the setting %s", p.Path, name)
				}
			}
		}
	}
}

func TestDeployObjects(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range manifests(t) {
		if o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
			t.Errorf("%s: an object lacks apiVersion, kind or name: %s", o.File, o.id())
		}
		if seen[o.id()] {
			t.Errorf("%s: %s is there twice", o.File, o.id())
		}
		seen[o.id()] = true
		if want := "herald"; o.Kind != "Namespace" && o.Metadata.Namespace != want {
			t.Errorf("%s: %s: got namespace %q, want %q", o.File, o.id(), o.Metadata.Namespace, want)
		}
		if o.Metadata.Labels["app.kubernetes.io/part-of"] != "herald" {
			t.Errorf("%s: %s lacks the label app.kubernetes.io/part-of: herald", o.File, o.id())
		}
		switch {
		case o.Kind == "Secret":
			t.Errorf("%s: %s: a Secret in git is a default that works", o.File, o.id())
		case o.Kind == "ServiceAccount" && (o.Automount == nil || *o.Automount):
			t.Errorf("%s: %s: mounts a token for the Kubernetes API", o.File, o.id())
		case o.Kind == "Deployment" && (o.Spec.Strategy.RollingUpdate.MaxUnavailable != 0 ||
			o.Spec.Strategy.RollingUpdate.MaxSurge < 1):
			t.Errorf("%s: %s: an update takes pods away before their successors are ready", o.File, o.id())
		}
	}
	if got := find(t, manifests(t),
		"Namespace/herald").Metadata.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("pod security: got %q, want restricted", got)
	}
}

// A tag with a patch version, or with the major and minor of somebody else's.
var pinned = regexp.MustCompile(`^[^:@]+:v?\d+\.\d+`)

func TestDeployPods(t *testing.T) {
	objects := manifests(t)
	tags := map[string]bool{}
	for _, o := range objects {
		if o.Spec.Template == nil {
			continue
		}
		pod := o.Spec.Template.Spec
		sc := pod.SecurityContext
		if !sc.RunAsNonRoot || sc.RunAsUser == 0 || sc.SeccompProfile.Type != "RuntimeDefault" {
			t.Errorf("%s: runs as root or without the seccomp profile: %+v", o.id(), sc)
		}
		if pod.Automount == nil || *pod.Automount || pod.ServiceLinks == nil || *pod.ServiceLinks {
			t.Errorf("%s: mounts a token, or takes service links for settings", o.id())
		}
		find(t, objects, "ServiceAccount/"+pod.ServiceAccountName)
		for _, v := range pod.Volumes {
			if v.Secret != nil && !v.Secret.Optional {
				t.Errorf("%s: waits for the Secret %s, which nobody made", o.id(), v.Secret.SecretName)
			}
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			id := o.id() + "/" + c.Name
			for _, r := range []string{"cpu", "memory"} {
				if c.Resources.Requests[r] == "" || c.Resources.Limits[r] == "" {
					t.Errorf("%s: lacks a request or limit of %s", id, r)
				}
			}
			s := c.SecurityContext
			if s.Escalation == nil || *s.Escalation || !s.ReadOnlyRoot ||
				!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 {
				t.Errorf("%s: has privileges or a writable root: %+v", id, s)
			}
			if !pinned.MatchString(c.Image) {
				t.Errorf("%s: the tag of %s names no version", id, c.Image)
			}
			if name, tag, _ := strings.Cut(c.Image, ":"); strings.HasPrefix(name, "ghcr.io/herald-push/") {
				tags[tag] = true
			}
			for _, e := range c.Env {
				if r := e.ValueFrom.SecretKeyRef; r != nil && !r.Optional {
					t.Errorf("%s: waits for %s of the Secret %s, which nobody made", id, r.Key, r.Name)
				}
			}
			if c.Startup == nil || c.Readiness == nil || c.Liveness == nil {
				t.Errorf("%s: lacks a probe", id)
				continue
			}
			if c.Readiness.HTTPGet.Path == c.Liveness.HTTPGet.Path {
				t.Errorf("%s: what makes it unready also kills it: %+v", id, c.Readiness.HTTPGet)
			}
		}
	}
	if len(tags) != 1 {
		t.Errorf("the services have tags %v, want one", tags)
	}
}

// What a pod does when it is told to stop fits into its grace period.
func TestDeployStopsInTime(t *testing.T) {
	objects := manifests(t)
	nats := natsOptions(t, objects)
	for _, c := range []struct {
		id   string
		rest time.Duration // what it may take beside preStop and HERALD_DRAIN
	}{
		{"Deployment/gateway", 10 * time.Second}, // lifecycle.Run in each main
		{"Deployment/ingest", 5 * time.Second},
		{"StatefulSet/logger", 20 * time.Second},
		{"Deployment/admin", 15 * time.Second},
		{"StatefulSet/nats", nats.LameDuckDuration + nats.LameDuckGracePeriod},
	} {
		pod := find(t, objects, c.id).Spec.Template.Spec
		need := c.rest + time.Duration(pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds)*time.Second
		for _, e := range pod.Containers[0].Env {
			if e.Name == "HERALD_DRAIN" {
				drain, err := time.ParseDuration(e.Value)
				if err != nil {
					t.Errorf("%s: HERALD_DRAIN: %v", c.id, err)
				}
				need += drain
			}
		}
		if got := time.Duration(pod.Grace) * time.Second; got <= need {
			t.Errorf("%s: got a grace period of %s, want more than the %s it may take to stop", c.id, got, need)
		}
	}
}

// References lead somewhere: selectors to pods, ports to names, targets to workloads.
func TestDeployReferences(t *testing.T) {
	objects := manifests(t)
	ports := map[string][]string{} // app name: names of its container ports
	for _, o := range objects {
		if o.Spec.Template != nil {
			for _, p := range o.Spec.Template.Spec.Containers[0].Ports {
				ports[o.Spec.Template.Metadata.Labels["app.kubernetes.io/name"]] = append(
					ports[o.Spec.Template.Metadata.Labels["app.kubernetes.io/name"]], p.Name)
			}
		}
	}
	for _, o := range objects {
		switch o.Kind {
		case "Service":
			app, _ := o.Spec.Selector.(map[string]any)["app.kubernetes.io/name"].(string)
			for _, p := range o.Spec.Ports {
				if !slices.Contains(ports[app], p.TargetPort) {
					t.Errorf("%s: no pod of %q has the port %q", o.id(), app, p.TargetPort)
				}
			}
		case "StatefulSet":
			find(t, objects, "Service/"+o.Spec.ServiceName)
		case "HorizontalPodAutoscaler":
			target := find(t, objects, o.Spec.ScaleTargetRef.Kind+"/"+o.Spec.ScaleTargetRef.Name)
			if target.Spec.Replicas != 0 {
				t.Errorf("%s: each apply sets the replicas that the autoscaler owns", target.id())
			}
		case "Ingress":
			for _, r := range o.Spec.Rules {
				for _, p := range r.HTTP.Paths {
					service := find(t, objects, "Service/"+p.Backend.Service.Name)
					if service.Spec.Ports[0].Name != p.Backend.Service.Port.Name {
						t.Errorf("%s: %s leads to no port of %s", o.id(), p.Path, service.id())
					}
					for _, inside := range []string{"/metrics", "/healthz", "/readyz", "/debug"} {
						if inside == p.Path || p.PathType == "Prefix" &&
							strings.HasPrefix(inside, strings.TrimSuffix(p.Path, "/")+"/") {
							t.Errorf("%s: %s is shown to everybody", o.id(), inside)
						}
					}
				}
			}
		}
	}
}

// Each service takes the settings that its pods are given.
func TestDeploySettings(t *testing.T) {
	objects := manifests(t)
	shared := find(t, objects, "ConfigMap/herald").Data
	nats, logs := natsx.Config{}, telemetry.LogConfig{Level: "info", Format: "json"}
	in, out, log, console := ingest.DefaultConfig(), gateway.DefaultConfig(), logger.DefaultConfig(),
		admin.DefaultConfig()
	known := map[string]bool{}
	var ops service.OpsConfig
	for _, s := range []struct {
		id       string
		settings []config.Setting
		validate func() error
	}{
		{"Deployment/ingest", in.Settings(), in.Validate},
		{"Deployment/gateway", out.Settings(), out.Validate},
		{"StatefulSet/logger", log.Settings(), log.Validate},
		{"Deployment/admin", console.Settings(), console.Validate},
	} {
		settings := slices.Concat(s.settings, nats.Settings(), logs.Settings(), ops.Settings())
		own := map[string]bool{}
		for _, setting := range settings {
			known[setting.Env], own[setting.Env] = true, true
		}
		env := map[string]string{}
		for k, v := range shared {
			env[k] = v
		}
		for _, e := range find(t, objects, s.id).Spec.Template.Spec.Containers[0].Env {
			if strings.HasPrefix(e.Name, "HERALD_") && !own[e.Name] {
				t.Errorf("%s: there is no setting %s", s.id, e.Name)
			}
			if e.Value != "" {
				env[e.Name] = e.Value
			}
		}
		_, err := config.Parse(s.id, nil, configtest.Vars(env), nil, io.Discard, settings)
		if err = errors.Join(err, s.validate()); err != nil {
			t.Errorf("%s: %v", s.id, err)
		}
	}
	for name := range shared {
		if !known[name] {
			t.Errorf("ConfigMap/herald: nobody knows the setting %s", name)
		}
	}
	servers := find(t, objects, "StatefulSet/nats").Spec.Replicas
	if in.Replicas != servers {
		t.Errorf("HERALD_REPLICAS: got %d, want the %d servers of StatefulSet/nats", in.Replicas, servers)
	}
	var urls []string
	for i := range servers {
		urls = append(urls, fmt.Sprintf("nats://nats-%d.nats:4222", i))
	}
	if want := strings.Join(urls, ","); nats.URL != want {
		t.Errorf("HERALD_NATS_URL: got %s, want %s", nats.URL, want)
	}
}

// A change of what pods read at their start rolls those that it concerns: its
// hash is in their template.
func TestDeployRollsWhatAChangeConcerns(t *testing.T) {
	objects := manifests(t)
	for id, config := range map[string]string{
		"Deployment/ingest": "herald", "Deployment/gateway": "herald", "Deployment/admin": "herald",
		"StatefulSet/logger": "herald", "StatefulSet/nats": "nats",
	} {
		b, err := json.Marshal(find(t, objects, "ConfigMap/"+config).Data) // sorted by key
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%x", sha256.Sum256(b))[:16]
		if got := find(t, objects, id).Spec.Template.Metadata.Annotations["herald.io/config"]; got != want {
			t.Errorf("%s: herald.io/config: got %s, want %s: the ConfigMap %s is another one", id, got, want, config)
		}
	}
}

func TestDeployNATS(t *testing.T) {
	objects := manifests(t)
	nats, opts := find(t, objects, "StatefulSet/nats"), natsOptions(t, objects)
	if opts.ServerName != "nats-0" || !opts.JetStream || opts.StoreDir != "/data" {
		t.Errorf("got server %q, JetStream %v in %q; want nats-0, true in /data", opts.ServerName, opts.JetStream,
			opts.StoreDir)
	}
	if !opts.SyncAlways {
		t.Errorf("sync_interval: got %s, want always, or a power cut takes what was answered with 2xx",
			opts.SyncInterval)
	}
	if want := string(read(t, "../../deploy/compose/alive.sh")); find(t, objects,
		"ConfigMap/nats").Data["alive.sh"] != want {
		t.Error("alive.sh is not the one of deploy/compose, which the fault suite runs")
	}
	// A server whose stream cannot be stored is told by plain /healthz alone.
	c := nats.Spec.Template.Spec.Containers[0]
	if c.Readiness.HTTPGet.Path != "/healthz" ||
		!slices.Equal(c.Liveness.Exec.Command, []string{"sh", "/etc/nats/alive.sh"}) {
		t.Errorf("probes: got %+v and %+v", c.Readiness, c.Liveness)
	}
	size, err := strconv.ParseInt(strings.TrimSuffix(
		nats.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests["storage"], "Gi"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if opts.JetStreamMaxStore <= 0 || opts.JetStreamMaxStore > size<<30*9/10 {
		t.Errorf("max_file_store: got %d bytes, want at most nine tenths of the volume of %d GiB",
			opts.JetStreamMaxStore, size)
	}
	var routes []string
	for _, r := range opts.Routes {
		routes = append(routes, r.Host)
	}
	var want []string
	for i := range nats.Spec.Replicas {
		want = append(want, fmt.Sprintf("nats-%d.nats:6222", i))
	}
	if !slices.Equal(routes, want) || !opts.Cluster.NoAdvertise {
		t.Errorf("routes: got %q, advertised %v; want %q, and addresses of pods not advertised", routes,
			!opts.Cluster.NoAdvertise, want)
	}
}
