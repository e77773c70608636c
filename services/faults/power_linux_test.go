package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"golang.org/x/sys/unix"
)

// disk is a file system of its own whose power can be cut: ext4 on a loop
// device, whose image lies in memory so that an fsync does not wait for this
// machine's disk.
//
// What cut simulates: the file system stops in the middle of whatever it does
// (EXT4_IOC_SHUTDOWN without a flush of the journal, with which file systems
// themselves are tested, in xfstests), and everything goes that the kernel
// had in memory and had not given to the device: data that no fsync asked for,
// directory entries, half a journal transaction. Then the journal is
// replayed, as after a real power cut. What it does not simulate: a device
// that loses what it confirmed, or writes half a sector; a file system that
// does not keep the directory entry of a new file that was fsynced (ext4 and
// XFS do; nats-server does not sync the folder when it begins a new block).
type disk struct {
	t     testing.TB
	image string
	dir   string // where it is mounted
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{t: t, image: filepath.Join(smallDisk(t, "300m"), "image"), dir: t.TempDir()}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(256 << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	asRoot(t, "mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	t.Cleanup(d.unmount) // Herald, started later, is gone by then
	return d
}

// mount also replays the journal. Without commit= ext4 would bring to the
// device every five seconds what nobody asked it to.
func (d *disk) mount() {
	d.t.Helper()
	asRoot(d.t, "mount", "-o", "loop,commit=600", d.image, d.dir)
	asRoot(d.t, "chmod", "0777", d.dir)
}

func (d *disk) unmount() {
	d.t.Helper()
	asRoot(d.t, "umount", d.dir)
}

// EXT4_IOC_SHUTDOWN is _IOR('X', 125, __u32), and 2 is
// EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h).
const (
	ext4Shutdown   = 0x8004587d
	withoutFlushes = 2
)

// cut is the power cut. From now on the disk fails everything, until it is
// unmounted and mounted again.
func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only opened
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutFlushes); err != nil {
		d.t.Fatalf("cut the power of %s: %v; run this test as root", d.dir, err)
	}
}

// powerCut cuts the power of a Herald and its disk, and starts both again. The
// processor stops before the disk does: a Herald that ran on would acknowledge
// messages whose fsync failed, since nats-server does not look at its result.
func (d *disk) powerCut(h *service) {
	d.t.Helper()
	d.freeze(h)
	d.cut()
	h.kill()
	d.unmount()
	d.mount()
	h.start()
	h.await()
}

// freeze stops every thread of a Herald; one that waits for the disk is stopped
// when its call returns.
func (d *disk) freeze(h *service) {
	d.t.Helper()
	if err := unix.Kill(h.p.Pid(), unix.SIGSTOP); err != nil {
		d.t.Fatalf("stop process %d: %v", h.p.Pid(), err)
	}
	natstest.Eventually(d.t, time.Minute, "every thread is stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", h.p.Pid()))
		if err != nil || len(threads) == 0 {
			d.t.Fatalf("threads of process %d: %v, %v", h.p.Pid(), threads, err)
		}
		for _, thread := range threads {
			b, err := os.ReadFile(thread) // a thread that has just ended has none
			if state := b[bytes.LastIndexByte(b, ')')+1:]; err == nil && !bytes.HasPrefix(state, []byte(" T")) {
				return false
			}
		}
		return true
	})
}

// The power goes while messages flow, into the stream and into the log: what
// was answered with 2xx is in both, and with every client, once.
func TestPowerCut(t *testing.T) {
	d := newDisk(t)
	s, h := newSingle(t, filepath.Join(d.dir, "data"), "HERALD_DB=") // the log lies in the data folder
	s.db = filepath.Join(d.dir, "data", "herald.db")
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addSocketIO(2, s.gatewayAddrs())
	cuts := times(10, 2)
	l := s.publisher.startLoad(16, 800, 4000, names)
	for range cuts {
		for before := s.ledger.len(); s.ledger.len() < before+1000; { // enough for more than a file of the stream
			s.flowing()
		}
		d.powerCut(h)
	}
	s.flowing()
	l.stop()
	s.settle(names)
	v := s.verdict()
	report(t, v, "what no fsync had brought to the device is gone; log and stream have what was answered with 2xx",
		"single binary: power cut, ×%d", cuts)
}

// The same with -sync 10m loses acknowledged messages. It shows that the test
// above would notice if messages were acknowledged before they are synced.
func TestPowerCutBites(t *testing.T) {
	d := newDisk(t)
	s, h := newSingle(t, filepath.Join(d.dir, "data"), "HERALD_SYNC=10m")
	const n = 100
	for range n {
		if _, err := s.publisher.publish(t.Context(), "public.c0", 100); err != nil {
			t.Fatal(err)
		}
	}
	d.powerCut(h)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.addr+
		"/v1/channels/public.c0/messages?since=all&limit=1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", apiKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	body, err := io.ReadAll(resp.Body)
	var page struct{ Messages []json.RawMessage }
	if err == nil {
		err = json.Unmarshal(body, &page)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s, %v: %s", resp.Status, err, body)
	}
	if kept := len(page.Messages); kept >= n {
		t.Errorf("%d of %d messages are there, want some lost: the power cut loses nothing that was not synced",
			kept, n)
	}
}
