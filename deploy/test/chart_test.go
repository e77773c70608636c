//go:build helm

package deploy

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// helm runs it on the chart and returns the objects that it would apply, by kind
// and name.
func helm(t testing.TB, args ...string) map[string]map[string]any {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("helm", append([]string{"template", "herald", chart, "--namespace", "herald", "--kube-version",
		"1.30.0"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("helm template %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return generic(t, &stdout)
}

// generic reads objects as they are written.
func generic(t testing.TB, r io.Reader) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for documents := yaml.NewDecoder(r); ; {
		var o map[string]any
		err := documents.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if o == nil {
			continue
		}
		id := o["kind"].(string) + "/" + dig(o, "metadata", "name").(string)
		if all[id] != nil {
			t.Errorf("%s is there twice", id)
		}
		all[id] = o
	}
}

// dig follows keys; nil where there is none.
func dig(o any, keys ...string) any {
	for _, k := range keys {
		m, _ := o.(map[string]any)
		o = m[k]
	}
	return o
}

// The chart's objects are those of the plain manifests: nothing more, nothing
// less, nothing else, but for what Helm says of itself.
func TestChartIsThePlainManifests(t *testing.T) {
	got := helm(t, "--set", "namespace.create=true")
	want := map[string]map[string]any{}
	for _, file := range applied(t) {
		for id, o := range generic(t, bytes.NewReader(read(t, filepath.Join(deploy, file)))) {
			want[id] = o
		}
	}
	for id, o := range got {
		labels, _ := dig(o, "metadata", "labels").(map[string]any)
		delete(labels, "app.kubernetes.io/managed-by")
		delete(labels, "helm.sh/chart")
		if want[id] == nil {
			t.Errorf("the chart has %s, the manifests have not", id)
		}
	}
	for id, o := range want {
		for _, side := range []map[string]any{o, got[id]} { // the same idea, another hash
			annotations, _ := dig(side, "spec", "template", "metadata", "annotations").(map[string]any)
			delete(annotations, "herald.io/config")
			if annotations != nil && len(annotations) == 0 {
				delete(dig(side, "spec", "template", "metadata").(map[string]any), "annotations")
			}
		}
		if !reflect.DeepEqual(normal(got[id]), normal(o)) {
			a, _ := yaml.Marshal(normal(got[id]))
			b, _ := yaml.Marshal(normal(o))
			t.Errorf("%s: the chart has\n%s\nthe manifest\n%s", id, a, b)
		}
	}
}

// normal is a value without the ways to write a number.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, x := range v {
			m[k] = normal(x)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, x := range v {
			l[i] = normal(x)
		}
		return l
	case int:
		return float64(v)
	}
	return v
}

// Each set of values that the chart is shipped with renders, and says what it is
// meant to say.
func TestChartValues(t *testing.T) {
	sets, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(sets) < 5 {
		t.Fatalf("sets of values: got %d, %v", len(sets), err)
	}
	lint, err := exec.Command("helm",
		append([]string{"lint", "--strict", "--kube-version", "1.30.0", chart, "--values"},
			strings.Join(sets, ","))...).CombinedOutput()
	if err != nil {
		t.Errorf("helm lint: %v\n%s", err, lint)
	}
	rendered := map[string]map[string]map[string]any{}
	for _, set := range sets {
		rendered[strings.TrimSuffix(filepath.Base(set), ".yaml")] = helm(t, "--values", set)
	}
	config := func(set, name string) any { return dig(rendered[set]["ConfigMap/herald"], "data", name) }
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"small: one server", config("small", "HERALD_NATS_URL"), "nats://nats-0.nats:4222"},
		{"small: one copy", config("small", "HERALD_REPLICAS"), "1"},
		{"small: no autoscaler", rendered["small"]["HorizontalPodAutoscaler/gateway"], map[string]any(nil)},
		{"small: its number", dig(rendered["small"]["Deployment/gateway"], "spec", "replicas"), 1},
		{"own-nats: its address", config("own-nats", "HERALD_NATS_URL"), "nats://nats.messaging:4222"},
		{"own-nats: a setting as a number", config("own-nats", "HERALD_STREAM_MAX_BYTES"), "4294967296"},
		{"own-nats: no NATS", rendered["own-nats"]["StatefulSet/nats"], map[string]any(nil)},
		{"tls: the scheme", config("tls-gateway-api", "HERALD_NATS_URL"),
			"tls://nats-0.nats:4222,tls://nats-1.nats:4222,tls://nats-2.nats:4222"},
		{"tls: the certificate", config("tls-gateway-api", "HERALD_NATS_CERT"), "/etc/herald/nats/tls.crt"},
		{"gateway API: a route", dig(rendered["tls-gateway-api"]["HTTPRoute/ingest"], "kind"), "HTTPRoute"},
		{"gateway API: no ingress", rendered["tls-gateway-api"]["Ingress/ingest"], map[string]any(nil)},
		{"monitoring: rules", dig(rendered["monitoring"]["PrometheusRule/herald"], "kind"), "PrometheusRule"},
		{"monitoring: pods", dig(rendered["monitoring"]["PodMonitor/herald"], "metadata", "labels", "release"),
			"kube-prometheus-stack"},
		{"large: a class", dig(rendered["large"]["Ingress/ingest"], "spec", "ingressClassName"), "haproxy"},
		{"large: no console", rendered["large"]["Deployment/admin"], map[string]any(nil)},
		{"own-nats: the console outside", dig(rendered["own-nats"]["Ingress/admin"], "kind"), "Ingress"},
		{"gateway API: the console outside", dig(rendered["tls-gateway-api"]["HTTPRoute/admin"], "kind"), "HTTPRoute"},
		{"large: no logger", rendered["large"]["StatefulSet/logger"], map[string]any(nil)},
		{"large: five servers", dig(rendered["large"]["StatefulSet/nats"], "spec", "replicas"), 5},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
	for _, set := range []string{"small", "large", "tls-gateway-api"} { // what NATS would read
		conf, _ := dig(rendered[set]["ConfigMap/nats"], "data", "nats.conf").(string)
		if routes := strings.Count(conf, "nats://nats-"); routes != map[string]int{"small": 0, "large": 5,
			"tls-gateway-api": 3}[set] {
			t.Errorf("%s: got %d routes in\n%s", set, routes, conf)
		}
	}
	if n := len(rendered["monitoring"]); n != len(helm(t))+7 {
		t.Errorf("monitoring: got %d objects, want seven more than without: a PodMonitor, a PrometheusRule, "+
			"five dashboards", n)
	}
}

// A wrong value is refused, with its name.
func TestChartRefuses(t *testing.T) {
	for value, want := range map[string]string{
		"gateway.replcas=3":         "replcas",
		"nats.replicas=2":           "nats/replicas",
		"nats.enabled=false":        "nats/url",
		"config.PORT=1":             "config",
		"image.pullPolicy=Whenever": "pullPolicy",
		"admin.exposed=perhaps":     "admin/exposed",
		"logger.storage.size=much":  "logger/storage/size",
	} {
		out, err := exec.Command("helm", "template", "herald", chart, "--kube-version", "1.30.0", "--set",
			value).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("--set %s: got %v; want an error that names %s:\n%s", value, err, want, out)
		}
	}
}

// What pods read at their start is in their template: a change rolls those that
// it concerns, and no others.
func TestChartRollsWhatAChangeConcerns(t *testing.T) {
	hash := func(objects map[string]map[string]any, id string) any {
		return dig(objects[id], "spec", "template", "metadata", "annotations", "herald.io/config")
	}
	before, after := helm(t), helm(t, "--set", "config.HERALD_LOG_LEVEL=debug")
	for _, id := range []string{"Deployment/ingest", "Deployment/gateway", "Deployment/admin", "StatefulSet/logger"} {
		if hash(before, id) == hash(after, id) || hash(after, id) == nil {
			t.Errorf("%s: a setting changed, and its pods stay: %v", id, hash(after, id))
		}
	}
	if hash(before, "StatefulSet/nats") != hash(after, "StatefulSet/nats") {
		t.Error("a setting of the services restarts NATS")
	}
	if moved := helm(t, "--set", "nats.storage.maxFileStore=9GB"); hash(before, "StatefulSet/nats") == hash(moved,
		"StatefulSet/nats") {
		t.Error("NATS' configuration changed, and its pods stay")
	}
}
