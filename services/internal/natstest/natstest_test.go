package natstest_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
)

// A restarted server is where it was, with what it had, and clients come back.
func TestRestart(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, epoch := s.Stream(nc)
	if _, err := js.Publish(t.Context(), "herald.msg.a", []byte(`{"channel":"a"}`)); err != nil {
		t.Fatal(err)
	}
	url := s.URL
	s.Restart()
	if s.URL != url {
		t.Errorf("moved from %s to %s", url, s.URL)
	}
	natstest.Eventually(t, 30*time.Second, "connected again", nc.IsConnected)
	natstest.Eventually(t, 30*time.Second, "the message is there", func() bool {
		state, err := natsx.NewReader(nc, nil).State(t.Context())
		return err == nil && state.Last == 1
	})
	if _, again := s.Stream(nc); again == epoch {
		t.Errorf("epoch %s did not change: a server that was restarted may have lost messages", epoch)
	}
	s.Stop()
	natstest.Eventually(t, 30*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	s.Stop() // of a stopped one
}

// finished is a test of which this one says when it is over.
type finished struct {
	testing.TB
	out     bytes.Buffer
	cleanup func()
}

func (f *finished) Output() io.Writer { return &f.out }
func (f *finished) Cleanup(c func())  { f.cleanup = c }

func TestLogAfterTheTest(t *testing.T) {
	over := &finished{TB: t}
	log := natstest.Log(over)
	log.Info("during the test")
	over.cleanup()
	log.Info("after the test")
	if got := over.out.String(); !strings.Contains(got, "during the test") || strings.Contains(got, "after the test") {
		t.Errorf("got %s", got)
	}
}
