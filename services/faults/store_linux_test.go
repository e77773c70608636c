package faults

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"golang.org/x/sys/unix"
)

const heraldCommand = module + "allinone"

// newSingle is the single binary as the whole system: it is ingest, gateway
// and logger in one process. Its stream is in data; the log is elsewhere, so
// that what happens to the stream's disk does not happen to the log's.
func newSingle(t testing.TB, data string, env ...string) (*system, *service) {
	t.Helper()
	s := &system{t: t, ledger: newLedger(), db: filepath.Join(t.TempDir(), "herald.db")}
	h := newHerald(t, data, append([]string{"HERALD_DB=" + s.db}, env...)...)
	s.ingests, s.gateways, s.logger = []*service{h}, []*service{h}, h
	s.publisher = newPublisher(s.ledger, []string{h.addr})
	t.Cleanup(s.publisher.http.CloseIdleConnections)
	h.await()
	return s, h
}

func newHerald(t testing.TB, data string, env ...string) *service {
	t.Helper()
	return newService(t, heraldCommand, t.TempDir(), "", append([]string{"HERALD_DATA=" + data}, env...)...)
}

// fill takes all room of a disk; the function that it returns gives it back.
func fill(t testing.TB, disk string) (free func()) {
	t.Helper()
	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	// Small pieces at the end, so that not even a page is left.
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	_ = f.Close() // of a full disk
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
	}
}

// reasons are why a service says that it is not ready; empty if it is.
func (s *service) reasons() string {
	s.t.Helper()
	resp, err := http.Get("http://" + s.ops + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	var body struct{ Reasons []string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return err.Error()
	}
	return strings.Join(body.Reasons, "; ")
}

// awaitReason waits until a service says that it is not ready for this reason.
func (s *service) awaitReason(reason string) {
	s.t.Helper()
	natstest.Eventually(s.t, time.Minute, s.command+" is not ready: "+reason, func() bool {
		return !s.ready() && strings.Contains(s.reasons(), reason)
	})
}

// ended is how many connections of all clients have ended.
func (s *system) ended() (n int) {
	for _, c := range s.clients {
		c.mu.Lock()
		for _, count := range c.codes {
			n += count
		}
		c.mu.Unlock()
	}
	return n
}

// The disk of the single binary's stream fills up, and somebody makes room.
// Herald says so, holds its clients meanwhile, and goes on by itself; it also
// starts while the disk is full.
func TestStreamDiskFull(t *testing.T) {
	disk := smallDisk(t, "64m")
	s, h := newSingle(t, disk, "HERALD_STREAM_MAX_BYTES=1073741824")
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addSocketIO(2, s.gatewayAddrs())
	rounds := times(5, 2)
	l := s.publisher.startLoad(8, 200, 500, names)
	for range rounds {
		s.flowing()
		free := fill(t, disk)
		h.awaitReason("no space left on device")
		if out := doctor(t, disk, h.addr); !strings.Contains(out, "the store takes no messages") ||
			!strings.Contains(out, "WRONG the disk of") {
			t.Errorf("herald doctor does not name the store and its disk:\n%s", out)
		}
		free()
		h.await()
	}
	s.flowing()
	if n := s.ended(); n > 0 {
		t.Errorf("%d connections of clients ended, want none: they have nothing to do with the disk", n)
	}
	free := fill(t, disk)
	h.awaitReason("no space left on device")
	h.kill()
	h.start()
	natstest.Eventually(t, time.Minute, "it serves with a full disk", func() bool { return s.connectedAll() })
	free()
	h.await()
	s.flowing()
	l.stop()
	s.settle(names)
	report(t, s.verdict(), "it says so, keeps its clients, goes on by itself, and starts on a full disk",
		"single binary: the stream's disk full, and freed, ×%d", rounds+1)
}

// Herald starts whatever is free: with a folder that is new, and with one that
// it used before, which holds the stream and the log.
func TestStartsOnFullDisk(t *testing.T) {
	disk := smallDisk(t, "24m")
	var h *service
	for round := range 3 {
		free := fill(t, disk)
		if h == nil {
			h = newHerald(t, filepath.Join(disk, "data"))
		} else {
			h.start()
		}
		h.awaitReason("no space left on device")
		free()
		h.await()
		l := newLedger()
		p := newPublisher(l, []string{h.addr})
		p.n.Store(uint64(round) * 1000) // its messages must be other ones than in the round before
		if _, err := p.publish(t.Context(), "public.c0", 1000); err != nil {
			t.Error(err)
		}
		p.http.CloseIdleConnections()
		if round == 0 {
			h.kill()
		} else {
			h.stop()
		}
	}
}

// Who lowers -stream-max-bytes on a full disk gets room by that.
func TestLimitLoweredOnFullDisk(t *testing.T) {
	disk := smallDisk(t, "48m")
	s, h := newSingle(t, filepath.Join(disk, "data"))
	for range 360 { // 21 MiB: two files of the stream, and some
		if _, err := s.publisher.publish(t.Context(), "public.c0", 60000); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, disk)
	h.awaitReason("no space left on device")
	h.kill()
	h.env = append(h.env, "HERALD_STREAM_MAX_BYTES=4194304")
	h.start()
	h.await()
	if _, err := s.publisher.publish(t.Context(), "public.c0", 60000); err != nil {
		t.Error(err)
	}
}

// doctor is what `herald doctor` says of the Herald at an address. It finds
// things that are wrong.
func doctor(t testing.TB, data, addr string) string {
	t.Helper()
	out, err := exec.Command(proctest.Build(t, heraldCommand), "doctor", "-data", data,
		"-listen", addr).CombinedOutput()
	if err == nil {
		t.Errorf("herald doctor finds nothing wrong:\n%s", out)
	}
	return string(out)
}

func (s *system) connectedAll() bool {
	for _, c := range s.clients {
		if !c.connected() {
			return false
		}
	}
	return true
}

// The same with a NATS elsewhere: ingest is not ready while NATS answers and
// does not store, and the probe of the manifests, which compose has too,
// restarts NATS once there is room, not before.
func TestStreamDiskFullElsewhere(t *testing.T) {
	disk := smallDisk(t, "64m")
	s := &system{t: t, ledger: newLedger()}
	monitor := proctest.FreePort(t)
	s.brokers = []*service{newBrokerIn(t, disk, "sync_interval: always\nmax_file_store: 4GB",
		"nats", "http: \"127.0.0.1:"+monitor+"\"")}
	s.brokers[0].start()
	s.brokers[0].await()
	s.natsURL = s.brokers[0].url()
	s.addServices(shape{ingests: 1, gateways: 1})
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addSocketIO(2, s.gatewayAddrs())
	rounds := times(3, 1)
	l := s.publisher.startLoad(8, 200, 500, names)
	for range rounds {
		s.flowing()
		free := fill(t, disk)
		s.ingests[0].awaitReason("no space left on device")
		if code := alive(t, disk, monitor); code != 0 {
			t.Errorf("alive.sh with a full disk: got %d, want 0, as a restart does not help", code)
		}
		free()
		natstest.Eventually(t, time.Minute, "alive.sh asks for a restart",
			func() bool { return alive(t, disk, monitor) == 1 })
		s.brokers[0].stop()
		s.brokers[0].start()
		s.brokers[0].await()
		s.ingests[0].await()
		if code := alive(t, disk, monitor); code != 0 {
			t.Errorf("alive.sh after the restart: got %d, want 0", code)
		}
	}
	s.flowing()
	l.stop()
	s.settle(names)
	report(t, s.verdict(), "ingest is not ready meanwhile, and the probe restarts NATS once that helps",
		"NATS elsewhere: its disk full, and freed, ×%d", rounds)
}

// alive runs the liveness probe of the manifests, and returns how it ends. It
// asks by nc, for which bash stands in here.
func alive(t testing.TB, data, monitor string) int {
	t.Helper()
	script, err := filepath.Abs("../../deploy/compose/alive.sh")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	nc := "#!/bin/bash\nexec 3<>/dev/tcp/$3/$4 && cat >&3 && cat <&3\n" // nc -w 4 HOST PORT
	if err := os.WriteFile(filepath.Join(bin, "nc"), []byte(nc), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", script)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DATA="+data, "MONITOR="+monitor)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState; err != nil && code == nil {
		t.Fatalf("alive.sh: %v: %s", err, out)
	}
	return cmd.ProcessState.ExitCode()
}

// Somebody opens sockets until the single binary takes no more: the store
// keeps the descriptors that it needs. Then it has none at all, as where the
// whole machine has run out: Herald says so, and goes on by itself when there
// are some.
func TestFilesExhausted(t *testing.T) {
	const few = 512
	s, h := newSingle(t, t.TempDir())
	h.stop()
	h.files = few
	h.start()
	h.await()
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	l := s.publisher.startLoad(8, 400, 4000, names)
	s.flowing()
	flood := idle(t, h.addr, few+100)
	// More than the 8 MiB of a block, so that the store has to open a new file.
	before := s.ledger.len()
	natstest.Eventually(t, 2*time.Minute, "messages are accepted while sockets are refused",
		func() bool { return s.ledger.len() >= before+2500 })
	if out := h.p.Output(); !strings.Contains(out, "connections are refused") ||
		strings.Contains(out, "messages cannot be stored") {
		t.Error("want connections refused, and messages stored all the time")
	}
	flood()
	rounds := times(3, 1)
	for range rounds {
		s.flowing()
		limitFiles(t, h, 1)
		natstest.Eventually(t, time.Minute, "it says that messages cannot be stored", func() bool {
			return strings.Count(h.p.Output(), "messages cannot be stored") > strings.Count(h.p.Output(),
				"messages can be stored again")
		})
		limitFiles(t, h, few)
		h.await()
	}
	s.flowing()
	l.stop()
	s.settle(names)
	report(t, s.verdict(), "a flood of idle sockets leaves the store its own; it goes on by itself",
		"single binary: no file left to open, ×%d", rounds)
}

// limitFiles sets how many files a process may have open from now on.
func limitFiles(t testing.TB, s *service, n uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Prlimit(s.p.Pid(), unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(s.p.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
		t.Fatalf("limit the open files of process %d: %v", s.p.Pid(), err)
	}
}

// idle opens n sockets and says nothing on them. The function that it returns
// closes them.
func idle(t testing.TB, addr string, n int) (close func()) {
	t.Helper()
	var open []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			break
		}
		open = append(open, c)
	}
	t.Logf("%d idle sockets", len(open))
	return func() {
		for _, c := range open {
			_ = c.Close()
		}
	}
}
