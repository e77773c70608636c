package faults

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
)

// The logger is killed while it commits batches: every row is there once.
func TestLoggerKilled(t *testing.T) {
	t.Parallel()
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 1})
	names := channels(20)
	s.addDialects(1, s.gatewayAddrs(), names)
	kills := times(20, 4)
	l := s.publisher.startLoad(16, 2000, 200, names)
	for range kills {
		before := s.rows()
		natstest.Eventually(t, time.Minute, "rows are committed", func() bool { return s.rows() > before })
		s.logger.kill()
		s.flowing()
		s.logger.start()
		s.logger.await()
	}
	l.stop()
	s.settle(names)
	v := s.verdict()
	v.received = s.rows() // what clients received is beside the point
	report(t, v, "every row once, no hole, integrity check ok", "`kill -9` of the logger in the middle of batches, ×%d",
		kills)
}

// The log's disk fills up, and somebody makes room. The logger says so, keeps
// everything in the stream meanwhile, and goes on by itself.
func TestDiskFull(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 1})
	s.logger.stop()
	disk := smallDisk(t, "8m")
	s.db = filepath.Join(disk, "herald.db")
	s.addLogger()
	s.logger.await()
	names := channels(20)
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(2, s.gatewayAddrs(), names)
	rounds := times(3, 1)
	l := s.publisher.startLoad(16, 800, 4000, names)
	for round := range rounds {
		natstest.Eventually(t, time.Minute, "the disk is full, and the logger not ready", func() bool {
			return !s.logger.ready() && s.logger.metric("herald_logger_disk_full") == 1
		})
		before := s.rows()
		s.flowing() // publishing goes on all the same
		if after := s.rows(); after != before || before == 0 {
			t.Errorf("rows: got %d, and %d before, want some, and no more while the disk is full", after, before)
		}
		// Without a hole, the last pack is as far as they are many.
		if acked, packs := s.acknowledged(),
			s.number(`SELECT count(DISTINCT seq >> 10) FROM messages`); acked > uint64(packs) {
			t.Errorf("acknowledged up to %d with %d packs in the log", acked, packs)
		}
		grow(t, disk, fmt.Sprintf("%dm", 24*(round+1)))
		s.logger.await()
	}
	l.stop()
	grow(t, disk, "512m")
	s.settle(names)
	report(t, s.verdict(), "the logger says so and goes on by itself", "the log's disk full, and freed, ×%d", rounds)
}

// acknowledged is the sequence up to which the logger told NATS that it has
// everything.
func (s *system) acknowledged() uint64 {
	s.t.Helper()
	var floor uint64
	s.mustAsk("the logger's consumer", func(ctx context.Context, js jetstream.JetStream) error {
		c, err := js.Consumer(ctx, proto.Stream, "logger")
		if err == nil {
			floor = c.CachedInfo().AckFloor.Stream
		}
		return err
	})
	return floor
}

// smallDisk mounts a tmpfs of a size until the test ends.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	asRoot(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() { asRoot(t, "umount", dir) }) // the logger, started later, is gone by then
	return dir
}

// grow changes the size of a mounted disk.
func grow(t testing.TB, dir, size string) {
	t.Helper()
	asRoot(t, "mount", "-o", "remount,size="+size, dir)
}

// asRoot runs a command as root; by sudo, which must not ask, if this process
// is not.
func asRoot(t testing.TB, name string, args ...string) {
	t.Helper()
	argv := append([]string{name}, args...)
	if syscall.Geteuid() != 0 {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s\na full disk needs a small one: run this test as root, or as a user whom sudo lets mount "+
			"without a password", argv, err, out)
	}
}
