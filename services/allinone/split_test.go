package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	_ "modernc.org/sqlite"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

const testKey = "hk_split-test-0123456789abcdef"

// TestSplit runs the split form as real processes: NATS, one ingest, two
// gateways, the logger. 10,000 messages reach 50 clients of each gateway
// exactly once and in order, and the log has one row for each.
func TestSplit(t *testing.T) {
	const messages, clients = 10000, 50
	nats := natstest.Start(t)
	dir := t.TempDir()
	common := []string{"HERALD_NATS_URL=" + nats.URL, "HERALD_API_KEY=" + testKey, "HERALD_LOG_LEVEL=warn"}
	addr := func() string { return "127.0.0.1:" + proctest.FreePort(t) }
	ingest, gateways, logger := addr(), []string{addr(), addr()}, addr()
	db := filepath.Join(dir, "herald.db")
	procs := []*proctest.Process{
		start(t, "ingest/cmd/ingest", dir, common, "-listen", ingest),
		start(t, "gateway/cmd/gateway", dir, common, "-listen", gateways[0]),
		start(t, "gateway/cmd/gateway", dir, common, "-listen", gateways[1]),
		start(t, "logger/cmd/logger", dir, common, "-listen", logger, "-db", db),
	}
	for _, a := range []string{ingest, gateways[0], gateways[1], logger} {
		proctest.Ready(t, "http://"+a)
	}

	var wg sync.WaitGroup
	faults := make(chan error, 2*clients)
	var received atomic.Int64 // by all clients
	for i := range 2 * clients {
		url := fmt.Sprintf("ws://%s/ws?channel=broadcast", gateways[i%2])
		ws, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		t.Cleanup(func() { _ = ws.Close() })
		_ = ws.SetReadDeadline(time.Now().Add(5 * time.Minute))
		if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), `"type":"welcome"`) {
			t.Fatalf("client %d: got %s, %v; want a welcome", i, b, err)
		}
		if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), `"type":"subscribed"`) {
			t.Fatalf("client %d: got %s, %v; want the channel confirmed", i, b, err)
		}
		wg.Go(func() { faults <- expect(ws, messages, &received) })
	}

	// A hundredth by single posts, the rest as NDJSON: both ways keep order. Clients that read slowly are another
	// test's question, so each stream waits for the one before.
	for n := 1; n <= messages/100; n++ {
		if status, body := post(t, "http://"+ingest+"/notify", testKey, "application/json",
			fmt.Sprintf(`{"message":%d}`, n)); status != 200 {
			t.Fatalf("notify: got %d %s", status, body)
		}
	}
	const lines = messages / 100 * 11
	for first := messages/100 + 1; first <= messages; first += lines {
		natstest.Eventually(t, 2*time.Minute, "the clients have what was published before", func() bool {
			return received.Load() >= int64(2*clients*(first-1)) || len(faults) > 0
		})
		var body strings.Builder
		for n := first; n < first+lines; n++ {
			fmt.Fprintf(&body, "{\"channel\":\"broadcast\",\"data\":%d}\n", n)
		}
		status, answer := post(t, "http://"+ingest+"/v1/messages", testKey, "application/x-ndjson", body.String())
		if want := fmt.Sprintf(`{"done":true,"stored":%d,"failed":0}`, lines); status != 200 ||
			!strings.Contains(answer, want) {
			t.Fatalf("ndjson: got %d …%s, want it to end with %s", status, proctest.Tail(answer, 300), want)
		}
	}
	wg.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			t.Error(err)
		}
	}

	rows := openDB(t, db)
	var count, distinct int
	natstest.Eventually(t, 30*time.Second, "the log has every message", func() bool {
		if err := rows.QueryRow(`SELECT count(*), count(DISTINCT seq) FROM messages`).Scan(&count,
			&distinct); err != nil {
			t.Fatal(err)
		}
		return count >= messages
	})
	if count != messages || distinct != messages {
		t.Errorf("log: got %d rows, %d sequences; want %d of each", count, distinct, messages)
	}
	for i := len(procs) - 1; i >= 0; i-- {
		procs[i].Stop(15 * time.Second)
	}
}

// expect reads the numbers 1 to n, in order, with ascending ids, and counts them.
func expect(ws *websocket.Conn, n int, received *atomic.Int64) error {
	var last uint64
	for want := 1; want <= n; want++ {
		_, b, err := ws.ReadMessage()
		if err != nil {
			return fmt.Errorf("after %d messages: %w", want-1, err)
		}
		var m struct {
			Type string
			ID   string
			Data json.Number
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("%s: %w", b, err)
		}
		if m.Type == proto.FramePosition { // no message: how far the client has everything
			want--
			continue
		}
		id, err := proto.ParseCursor(m.ID)
		if err != nil {
			return err
		}
		if m.Data.String() != fmt.Sprint(want) || id.Seq <= last {
			return fmt.Errorf("got %s after id %d; want the number %d and a later id", b, last, want)
		}
		last = id.Seq
		received.Add(1)
	}
	return nil
}

func openDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
