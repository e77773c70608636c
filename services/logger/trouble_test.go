package logger

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A file that cannot be opened is told, with what to do, and tried again.
func TestFileThatIsNoDatabase(t *testing.T) {
	w := newWorld(t)
	w.unopened = true
	if err := os.MkdirAll(filepath.Dir(w.cfg.DB), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.cfg.DB, []byte(strings.Repeat("this is a text\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckLog(context.Background(), w.cfg.DB); err == nil ||
		!strings.Contains(err.Error(), "move the file away") {
		t.Errorf("CheckLog: got %v, want what to do", err)
	}
	r := w.start()
	w.publish(1, 1)
	natstest.Eventually(t, patience, "readiness says what to do", func() bool {
		err := r.ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "not a database") &&
			strings.Contains(err.Error(), "move the file away")
	})
	if got := testutil.ToFloat64(r.metrics.unwritable.WithLabelValues("damaged")); got != 1 {
		t.Errorf("herald_logger_unwritable: got %v for a damaged file, want 1", got)
	}
	r.eventually("the keys are loaded", r.keysLoaded.Load)
	if status, _, body := r.get(envKey); status != 503 || !strings.Contains(string(body), "cannot be opened") {
		t.Errorf("GET /v1/log: got %d %s, want 503", status, body)
	}
	if err := os.Rename(w.cfg.DB, w.cfg.DB+".away"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, "a new log has the message",
		func() bool { return r.opened.Load() && r.last(w.epoch) == 1 })
	natstest.Eventually(t, patience, "it is ready", func() bool { return r.ready(context.Background()) == nil })
	if got := testutil.ToFloat64(r.metrics.unwritable.WithLabelValues("damaged")); got != 0 {
		t.Errorf("herald_logger_unwritable: got %v, want 0", got)
	}
	r.stop()
}

// A folder that cannot be made is one, too.
func TestFolderThatCannotBeMade(t *testing.T) {
	w := newWorld(t)
	w.unopened = true
	w.cfg.DB = "/dev/null/herald.db"
	r := w.start()
	natstest.Eventually(t, patience, "readiness names it", func() bool {
		err := r.ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "/dev/null")
	})
	r.stop()
}

// Another program's lock, at the start or later, ends with its transaction. In
// a process with other work it is a warning, not unreadiness.
func TestFileLockedByAnotherProgram(t *testing.T) {
	w := newWorld(t)
	w.start().stop() // makes the file
	lock := lockFile(t, w.cfg.DB)
	if err := CheckLog(context.Background(), w.cfg.DB); err == nil ||
		!strings.Contains(err.Error(), "another program has the file locked") {
		t.Errorf("CheckLog: got %v, want what to do", err)
	}
	reg := prometheus.NewRegistry()
	ops := telemetry.NewOps(reg)
	cfg := w.cfg
	cfg.Listen = ""
	s, err := New(context.Background(), cfg, Deps{NATS: w.nats.Connect(), Log: natstest.Log(t), Registry: reg, Ops: ops,
		Optional: true})
	if err != nil {
		t.Fatal(err)
	}
	s.consumer.timing = quick
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends below
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	w.publish(1, 1)
	natstest.Eventually(t, patience, "a warning names the lock", func() bool {
		err := ops.Warnings(context.Background())
		return err != nil && strings.Contains(err.Error(), "another program has the file locked")
	})
	if err := ops.Ready(context.Background()); err != nil {
		t.Errorf("ready: got %v, want nil: the process serves others", err)
	}
	lock()
	natstest.Eventually(t, patience, "the warning is gone",
		func() bool { return ops.Warnings(context.Background()) == nil })
	lock = lockFile(t, w.cfg.DB)
	w.publish(2, 1)
	natstest.Eventually(t, patience, "a warning names the lock again", func() bool {
		err := ops.Warnings(context.Background())
		return err != nil && strings.Contains(err.Error(), "another program has the file locked")
	})
	if err := ops.Ready(context.Background()); err != nil {
		t.Errorf("ready: got %v, want nil", err)
	}
	lock()
	natstest.Eventually(t, patience, "both messages are logged", func() bool {
		last, err := s.store.LastSeq(context.Background(), w.epoch)
		return err == nil && last == proto.Number(2, 0)
	})
}

// patience is longer than SQLite waits for a lock.
const patience = time.Minute

// lockFile holds the file's write lock, as a person's transaction in the
// sqlite3 shell does, until the returned function is called.
func lockFile(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open(sql.Drivers()[0], path) // the one of this build
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := db.Exec("ROLLBACK"); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// fillDisk makes each write of a row fail with SQLITE_FULL, as a full disk does, until the returned function is called:
// a trigger adds to a table that has given out its last key.
func fillDisk(t *testing.T, path string) (free func()) {
	t.Helper()
	db, err := sql.Open(sql.Drivers()[0], path)
	if err != nil {
		t.Fatal(err)
	}
	run := func(statements string) {
		t.Helper()
		if _, err := db.Exec("PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE; " + statements + "; COMMIT"); err != nil {
			t.Fatal(err)
		}
	}
	db.SetMaxOpenConns(1)
	run(`CREATE TABLE full (key INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO full VALUES (9223372036854775807);
		CREATE TRIGGER disk BEFORE INSERT ON messages BEGIN INSERT INTO full VALUES (NULL); END`)
	return func() {
		t.Helper()
		run("DROP TRIGGER disk; DROP TABLE full")
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkIntegrity reads the whole file and fails the test if it is damaged.
func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open(sql.Drivers()[0], path)
	if err != nil {
		t.Fatal(err)
	}
	var verdict string
	if err := errors.Join(db.QueryRow("PRAGMA integrity_check").Scan(&verdict), db.Close()); err != nil ||
		verdict != "ok" {
		t.Errorf("integrity_check: %q, %v", verdict, err)
	}
}
