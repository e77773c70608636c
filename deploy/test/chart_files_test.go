package deploy

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const chart = "../../deploy/chart"

var writeChart = flag.Bool("write-chart", false, "write the table of values into the chart's README.md")

// The chart has every file that `kubectl apply -f` reads, as the same file, and
// its version is that of the images.
func TestChartFiles(t *testing.T) {
	found, err := filepath.Glob(chart + "/files/manifests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, filepath.Base(f))
		if to, err := filepath.EvalSymlinks(f); err != nil ||
			filepath.Clean(to) != filepath.Join(deploy, filepath.Base(f)) {
			t.Errorf("%s: leads to %s, %v; want the file of deploy/", f, to, err)
		}
	}
	if want := applied(t); !slices.Equal(names, want) {
		t.Errorf("the chart has the manifests %q, deploy/ has %q", names, want)
	}
	boards, err := filepath.Glob(chart + "/files/dashboards/*.json")
	if all := dashboards(t); err != nil || len(boards) != len(all) {
		t.Errorf("the chart has %d dashboards, want %d: %v", len(boards), len(all), err)
	}
	var about struct {
		AppVersion string `yaml:"appVersion"`
		Version    string
	}
	decode(t, chart+"/Chart.yaml", &about)
	image := find(t, manifests(t), "Deployment/ingest").Spec.Template.Spec.Containers[0].Image
	if _, tag, _ := strings.Cut(image, ":"); about.AppVersion != tag || about.Version != tag {
		t.Errorf("Chart.yaml: got version %s and appVersion %s, want those of %s", about.Version,
			about.AppVersion, image)
	}
	if text := string(read(t, chart+"/templates/_adapt.tpl")); strings.Count(text, ":"+about.AppVersion+`"`) != 4 {
		t.Errorf("_adapt.tpl does not replace the images of version %s", about.AppVersion)
	}
}

// values are the leaves of values.yaml with their descriptions, as rows of a
// table.
func values(t testing.TB) []string {
	t.Helper()
	var file yaml.Node
	if err := yaml.Unmarshal(read(t, chart+"/values.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	var rows []string
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			name := prefix + key.Value
			said := regexp.MustCompile(`(?m)^# -- (.*)$`).FindStringSubmatch(key.HeadComment)
			if said == nil {
				if value.Kind != yaml.MappingNode || len(value.Content) == 0 {
					t.Errorf("values.yaml: %s has no description", name)
				}
				walk(name+".", value)
				continue
			}
			written := value.Value
			if value.Kind != yaml.ScalarNode {
				value.Style = yaml.FlowStyle
				b, err := yaml.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				written = strings.TrimSpace(string(b))
			} else if value.Tag == "!!str" {
				written = `"` + written + `"`
			}
			rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s |", name, written, said[1]))
		}
	}
	walk("", file.Content[0])
	return rows
}

// The chart's README has a row for each value, made of values.yaml.
func TestChartReadme(t *testing.T) {
	const path, begin, end = chart + "/README.md", "<!-- values:begin -->\n", "<!-- values:end -->"
	text := string(read(t, path))
	head, rest, ok := strings.Cut(text, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s lacks %s or %s", path, begin, end)
	}
	want := head + begin + "| value | default | what |\n| --- | --- | --- |\n" + strings.Join(values(t), "\n") +
		"\n" + end + tail
	if *writeChart {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != want {
		t.Errorf("%s is not made of values.yaml as it is; make chart-readme writes it", path)
	}
}
