package logger

import (
	"errors"
	"testing"

	"github.com/herald-push/herald/services/internal/ask"
)

// The logger tells how it does, and which messages have their row.
func TestAnswers(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	c, err := ask.NewClient(w.nats.Connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r.fill(orders()...)
	one := func(id string) (p ask.LoggerPath, err error) {
		return ask.One[ask.LoggerPath](t.Context(), c, ask.Logger, r.answers.process.Instance, ask.MessagePath,
			ask.PathQuestion{ID: id})
	}
	r.eventually("it answers", func() bool { _, err := one("mib3k2x9-3"); return err == nil })
	for id, want := range map[string]bool{"mib3k2x9-1": true, "mib3k2x9-5": true, "mib3k2x9-6": false,
		"mib3k2xa-1": false, "mib3k2x8-9": false, "mib3k2x9-0": false,
		"mib3k2x9-18446744073709551615": false} {
		if p, err := one(id); err != nil || p.Row != want || want != (p.Time != "") {
			t.Errorf("%s: got %+v, %v", id, p, err)
		}
	}
	for _, id := range []string{"", "x", "mib3k2x9-"} {
		var e *ask.Error
		if _, err := one(id); !errors.As(err, &e) {
			t.Errorf("%q: got %v, want a refusal", id, err)
		}
	}
	w.publish(1, 3)
	r.eventually("the rows are counted", func() bool {
		stats, err := ask.One[ask.LoggerStats](t.Context(), c, ask.Logger, r.answers.process.Instance, ask.Stats, nil)
		return err == nil && stats.Ready && stats.Rows == 3 && stats.Lag == 0
	})
}
