package logger

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/prometheus/client_golang/prometheus"
)

// A copy of this test binary is the logger that gets killed: it logs from
// this server into this file.
const (
	childFileEnv = "HERALD_TEST_KILL_FILE"
	childNATSEnv = "HERALD_TEST_KILL_NATS"
)

func childFile() string { return os.Getenv(childFileEnv) }

func logUntilKilled() {
	log, _, err := telemetry.NewLogger(os.Stderr, "logger", telemetry.LogConfig{Level: "warn", Format: "text"})
	if err != nil {
		panic(err)
	}
	nc, err := natsx.Connect(natsx.Config{URL: os.Getenv(childNATSEnv), Name: "child"}, log)
	if err != nil {
		panic(err)
	}
	reg := prometheus.NewRegistry()
	s, err := New(context.Background(), Config{DB: childFile()}, Deps{NATS: nc, Log: log, Registry: reg,
		Ops: telemetry.NewOps(reg)})
	if err != nil {
		panic(err)
	}
	s.consumer.timing = quick
	panic(s.Run(context.Background()))
}

func TestKilledInTheMiddleOfBatches(t *testing.T) {
	const part = 3000
	w := newWorld(t)
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFileEnv+"="+w.cfg.DB, childNATSEnv+"="+w.nats.URL)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		published := make(chan error, 1)
		go func() { published <- w.tryPublish(round*part+1, part) }() // ends before the round does
		// Killed while messages flow, at another point each round.
		natstest.Eventually(t, 3*time.Minute, "the child logs", func() bool {
			s, err := store.OpenReader(context.Background(), w.cfg.DB)
			if err != nil {
				return false
			}
			defer s.Close()
			last, err := s.LastSeq(context.Background(), w.epoch)
			return err == nil && last > proto.Number(uint64(round*part+round*300), 0)
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, as asked
		if err := <-published; err != nil {
			t.Fatal(err)
		}
	}
	r := w.startReady()
	r.checkComplete(w.epoch, 4*part)
	checkIntegrity(t, w.cfg.DB)
	r.eventually("no holes, nothing waits", func() bool {
		epochs, err := r.store.Epochs(context.Background())
		return err == nil && epochs[0].Accounted == 4*part && epochs[0].Holes == 0
	})
}
