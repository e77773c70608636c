//go:build compose

package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"go.yaml.in/yaml/v3"
)

// log reads the log through the balancer.
func (s *stack) log(key, format string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, s.base+"/v1/log?format="+format, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-API-KEY", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the log as %s: %s: %s", format, resp.Status, b)
	}
	return b, err
}

// logHas waits until the log, asked through the balancer, has the numbers 1 to
// n once each, and checks whom it names as their source.
func (s *stack) logHas(key string, n int) {
	s.t.Helper()
	balancer := s.run("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
		s.containers("balancer")[0])
	var rows []struct{ Message, Source string }
	natstest.Eventually(s.t, time.Minute, fmt.Sprintf("the log has %d rows", n), func() bool {
		export, err := s.log(key, "ndjson&channel="+proto.Broadcast)
		if err != nil {
			return false
		}
		rows = rows[:0]
		for lines := json.NewDecoder(bytes.NewReader(export)); ; {
			var r struct{ Message, Source string }
			if lines.Decode(&r) != nil {
				return len(rows) >= n
			}
			rows = append(rows, r)
		}
	})
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.Message] = true
		if r.Source == forged || r.Source == strings.TrimSpace(balancer) || r.Source == "" {
			s.t.Fatalf("message %s: its source is %q; want the client's address, not what it says, and not "+
				"the balancer's", r.Message, r.Source)
		}
	}
	for i := 1; i <= n; i++ {
		if !seen[fmt.Sprint(i)] {
			s.t.Fatalf("the log lacks message %d", i)
		}
	}
	if len(rows) != n {
		s.t.Errorf("the log: got %d rows, want %d", len(rows), n)
	}
}

// fetch reads an answer of Prometheus' API.
func (s *stack) fetch(path string, into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(proctest.Get(s.t, s.prometheus+path)), into); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
}

// sample is one line of what Prometheus answers.
type sample struct {
	Metric map[string]string
	Value  [2]any // time, and the number as a string
}

// number is the value; NaN where Prometheus has no better.
func (s sample) number() float64 {
	text, _ := s.Value[1].(string)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// ask queries Prometheus.
func (s *stack) ask(expr string) ([]sample, error) {
	resp, err := http.Get(s.prometheus + "/api/v1/query?" + url.Values{"query": {expr}}.Encode())
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     []sample
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return answer.Data.Result, nil
}

// targets counts Prometheus' targets by job, and complains of those that are
// down.
func (s *stack) targets() map[string]int {
	s.t.Helper()
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				Health, LastError, ScrapeURL string
				Labels                       map[string]string
			}
		}
	}
	s.fetch("/api/v1/targets?state=active", &answer)
	jobs := map[string]int{}
	for _, target := range answer.Data.ActiveTargets {
		jobs[target.Labels["job"]]++
		if target.Health != "up" {
			s.t.Errorf("Prometheus: %s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
		}
	}
	return jobs
}

// comparison is what makes an alert out of a number.
var comparison = regexp.MustCompile(` (==|!=|>=|<=|>|<) `)

// monitoringWorks checks that Prometheus finds all there is, that its rules can
// be evaluated, and that every query of a dashboard or an alert returns
// something. An alert's comparison is made to return 0 or 1, since it returns
// nothing while all is well.
func (s *stack) monitoringWorks() {
	s.t.Helper()
	s.compose("exec", "-T", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
	natstest.Eventually(s.t, time.Minute, "every target of Prometheus is up", func() bool {
		down, err := s.ask("up == 0")
		return err == nil && len(down) == 0
	})
	jobs := s.targets()
	for job, want := range map[string]int{"ingest": 1, "gateway": 3, "logger": 1, "admin": 1, "prometheus": 1} {
		if jobs[job] != want {
			s.t.Errorf("Prometheus: got %d targets of %s, want %d", jobs[job], job, want)
		}
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	s.fetch("/api/v1/rules", &rules)
	evaluated := 0
	for _, g := range rules.Data.Groups {
		for _, r := range g.Rules {
			if evaluated++; r.Health != "ok" {
				s.t.Errorf("rule %s: %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if want := len(alerts(s.t)) + 3; evaluated != want { // and what is expected
		s.t.Errorf("Prometheus evaluates %d rules, want %d", evaluated, want)
	}

	s.everyQueryReturnsData()
}

// everyQueryReturnsData asks until each has, for a minute: a counter that has
// just appeared has no rate before it was fetched twice. Those that may be empty
// must be possible to evaluate.
func (s *stack) everyQueryReturnsData() {
	s.t.Helper()
	mayBeEmpty := map[string]string{} // where it is asked, and why
	if err := yaml.Unmarshal(read(s.t, "../../deploy/test/empty-queries.yml"), &mayBeEmpty); err != nil {
		s.t.Fatal(err)
	}
	intervals := strings.NewReplacer("$__rate_interval", "5m", "$__interval", "5m", "$job", ".*", "$namespace", ".*",
		"$instance", ".*")
	all := queries(s.t)
	empty := 0
	for deadline := time.Now().Add(time.Minute); len(all) > 0; time.Sleep(time.Second) {
		last := time.Now().After(deadline)
		all = slices.DeleteFunc(all, func(q query) bool {
			expr := intervals.Replace(q.expr)
			if strings.HasPrefix(q.where, "alert/") {
				expr = comparison.ReplaceAllString(expr, " $1 bool ")
			}
			got, err := s.ask(expr)
			if err != nil {
				s.t.Errorf("%s: %v", q.where, err)
			}
			_, may := mayBeEmpty[q.where]
			delete(mayBeEmpty, q.where)
			data := slices.ContainsFunc(got, func(g sample) bool { return !math.IsNaN(g.number()) })
			if !data && may {
				empty++
			}
			if !data && !may && err == nil && last {
				s.t.Errorf("%s: no data for %s: %v", q.where, expr, got)
			}
			return data || may || err != nil || last
		})
	}
	for where := range mayBeEmpty {
		s.t.Errorf("empty-queries.yml has %s, and there is no such query", where)
	}
	s.t.Logf("%d queries asked, %d of them empty by nature", len(queries(s.t)), empty)
}
