package deploy

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/proctest"
	"go.yaml.in/yaml/v3"
)

const monitoring = "../../deploy/monitoring/"

// dashboard is what the tests look at in Grafana's JSON model.
type dashboard struct {
	UID         string
	Title       string
	Annotations struct{ List []struct{ Name, Expr string } }
	Templating  struct{ List []struct{ Name, Type string } }
	Panels      []panel
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ UID string }
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct {
		RefID      string
		Datasource struct{ UID string }
		Expr       string
	}
}

// dashboards are those of the repository by file name.
func dashboards(t testing.TB) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(monitoring + "dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: got %d files, %v", len(files), err)
	}
	all := map[string]dashboard{}
	for _, f := range files {
		var d dashboard
		if err := json.Unmarshal(read(t, f), &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = d
	}
	return all
}

// alert is one rule of the repository.
type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t testing.TB) []alert {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	if err := yaml.Unmarshal(read(t, monitoring+"rules/herald.yml"), &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// query is one that a panel shows or an alert asks.
type query struct{ where, expr string }

func queries(t testing.TB) []query {
	t.Helper()
	var all []query
	for file, d := range dashboards(t) {
		for _, a := range d.Annotations.List {
			all = append(all, query{file + "/annotations/" + a.Name, a.Expr})
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, query{file + "/" + p.Title + "/" + q.RefID, q.Expr})
			}
		}
	}
	for _, a := range alerts(t) {
		all = append(all, query{"alert/" + a.Alert, a.Expr})
	}
	return all
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// source is what every query asks: the variable, so that a dashboard can be
// imported wherever there is a Prometheus.
const source = "${datasource}"

// chosen are the matchers of a query's metrics: by the operator's own names.
const chosen = `job=~"$job",namespace=~"$namespace",instance=~"$instance"`

// Each panel can be read without asking its author: a title, a sentence, a
// unit, a place that no other has. And it can be imported anywhere: no fixed
// uid, the data source and what is shown are variables.
func TestDashboards(t *testing.T) {
	const want = source
	for file, d := range dashboards(t) {
		if d.UID != "" || d.Title == "" {
			t.Errorf("%s: got the uid %q and the title %q; want a title, and no uid: it would replace somebody "+
				"else's dashboard", file, d.UID, d.Title)
		}
		var variables []string
		for _, v := range d.Templating.List {
			variables = append(variables, v.Name)
		}
		if names := []string{"datasource", "job", "namespace", "instance"}; !slices.Equal(variables, names) {
			t.Errorf("%s: got the variables %q, want %q", file, variables, names)
		}
		ids := map[int]bool{}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			at := file + ": " + p.Title
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: the id %d is missing or taken", at, p.ID)
			}
			ids[p.ID] = true
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s lies over %s", at, other)
					}
					if taken[[2]int{x, y}] = p.Title; x >= 24 {
						t.Fatalf("%s reaches beyond the 24 columns", at)
					}
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != want ||
				len(p.Targets) == 0 {
				t.Errorf("%s: want a title, a description, a unit, the data source %q and a query", at, want)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.Expr == "" || q.RefID == "" || refs[q.RefID] || q.Datasource.UID != want {
					t.Errorf("%s: query %q: want an expression, a name of its own and the data source %q", at,
						q.RefID, want)
				}
				refs[q.RefID] = true
				for _, m := range regexp.MustCompile(`\b(?:herald|process|go)_[a-z0-9_]+(\{[^}]*\})?`).
					FindAllStringSubmatch(
						inStrings.ReplaceAllString(q.Expr, ""), -1) {
					if !strings.Contains(m[1], "{") {
						t.Errorf("%s: query %q asks for all of %s; want {%s}", at, q.RefID, m[0], chosen)
					}
				}
				if n := strings.Count(q.Expr, "{"); strings.Count(q.Expr, chosen) != n &&
					!strings.HasPrefix(q.Expr, "ALERTS{") {
					t.Errorf("%s: query %q: not all of its metrics are those of the variables: %s", at, q.RefID, q.Expr)
				}
			}
		}
	}
}

// inStrings are label values, which may look like names of metrics.
var inStrings = regexp.MustCompile(`"[^"]*"`)

// Whoever is woken finds a paragraph on what to do, and no paragraph is left
// over.
func TestAlerts(t *testing.T) {
	const runbook = "https://github.com/herald-push/herald/blob/main/deploy/monitoring/RUNBOOK.md"
	paragraphs := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (Herald\w+)$`).FindAllSubmatch(read(t, monitoring+"RUNBOOK.md"),
		-1) {
		paragraphs[string(m[1])] = true
	}
	for _, a := range alerts(t) {
		if !paragraphs[a.Alert] {
			t.Errorf("%s: no paragraph in the runbook, or two alerts of the name", a.Alert)
		}
		delete(paragraphs, a.Alert)
		if got, want := a.Annotations["runbook_url"], runbook+"#"+strings.ToLower(a.Alert); got != want {
			t.Errorf("%s: runbook_url: got %q, want %q", a.Alert, got, want)
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
			t.Errorf("%s: severity: got %q, want critical, warning or info", a.Alert, s)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: want a summary and a description", a.Alert)
		}
	}
	tried := string(read(t, monitoring+"tests/herald.yml"))
	for _, a := range alerts(t) {
		if !strings.Contains(tried, `exp_samples: [{ labels: 'ALERTS{alertname="`+a.Alert+`",alertstate="firing"`) {
			t.Errorf("%s: tests/herald.yml does not make it fire", a.Alert)
		}
	}
	for name := range paragraphs {
		t.Errorf("the runbook has a paragraph on %s, and there is no such alert", name)
	}
}

// The label values that alerts ask for are those of the code.
func TestAlertsAskForLabelsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, c := range proto.CloseCodes() {
		known[`code="`+c.String()+`"`] = true
	}
	for _, status := range []string{proto.StatusStored, proto.StatusDuplicate, proto.StatusSent, proto.StatusFailed,
		proto.StatusInvalid} {
		known[`status="`+status+`"`] = true
	}
	asked := 0
	for _, q := range queries(t) {
		for _, matcher := range regexp.MustCompile(`\b(?:code|status)="[^"]*"`).FindAllString(q.expr, -1) {
			if asked++; !known[matcher] {
				t.Errorf("%s: no metric has the label %s", q.where, matcher)
			}
		}
	}
	if asked == 0 {
		t.Error("got no label in all queries; were they read at all?")
	}
}

var (
	metricName = regexp.MustCompile(`\b(?:herald|go|process)_[a-z0-9_]+`)
	inBraces   = regexp.MustCompile(`\{[^}]*\}|"[^"]*"`)
	histogram  = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// Every metric that a panel or an alert asks for is one that the services
// serve: the single binary serves those of all.
func TestMonitoringAsksForMetricsThatExist(t *testing.T) {
	known := servedMetrics(t)
	asked := 0
	for _, q := range queries(t) {
		for _, name := range metricName.FindAllString(inBraces.ReplaceAllString(q.expr, ""), -1) {
			asked++
			if !known[name] && !known[histogram.ReplaceAllString(name, "")] {
				t.Errorf("%s: nobody serves %s", q.where, name)
			}
		}
	}
	if asked < 50 {
		t.Errorf("got %d names in all queries; want more: were they read at all?", asked)
	}
}

// Nothing is measured that nobody looks at.
func TestMonitoringShowsEveryMetric(t *testing.T) {
	asked := map[string]bool{}
	for _, q := range queries(t) {
		for _, name := range metricName.FindAllString(q.expr, -1) {
			asked[name], asked[histogram.ReplaceAllString(name, "")] = true, true
		}
	}
	for name := range servedMetrics(t) {
		if strings.HasPrefix(name, "herald_") && !asked[name] {
			t.Errorf("%s is on no panel and in no rule: show it or drop it", name)
		}
	}
}

// servedMetrics are the names on /metrics of a running Herald, and, since a
// vector without a value is not served, those in the code.
func servedMetrics(t testing.TB) map[string]bool {
	t.Helper()
	port, ops := proctest.FreePort(t), proctest.FreePort(t)
	p := start(t, "allinone", t.TempDir(), nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "127.0.0.1:"+ops)
	p.WaitFor("is ready")
	families := proctest.Metrics(t, "http://127.0.0.1:"+ops+"/metrics")
	known := map[string]bool{}
	for name := range families {
		known[name] = true
	}
	quoted := regexp.MustCompile(`"(herald_(?:gateway|ingest|logger|build|nats|stream)_[a-z_]*[a-z])"`)
	err := filepath.WalkDir("../../services", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range quoted.FindAllSubmatch(read(t, path), -1) {
			known[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}
