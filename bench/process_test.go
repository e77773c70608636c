//go:build linux

package main

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What the clock of a process says of this one is what it says of itself.
func TestCPUOf(t *testing.T) {
	const slack = 0.02 // two ticks
	own := func() float64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	least := own()
	for own() < least+0.05 { // five ticks
	}
	least = own()
	got, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if most := own(); got.sum < least-slack || got.sum > most+slack {
		t.Errorf("got %.3f s, want from %.3f to %.3f", got.sum, least, most)
	}
	if got.user < 0 || got.user > got.sum+slack {
		t.Errorf("got %.3f s of user time among %.3f", got.user, got.sum)
	}
	if _, err := cpuOf(1 << 30); err == nil {
		t.Error("got no error for a process that does not exist")
	}
}

// Who has left is noticed at the first write, and only that one is forgotten.
func TestBareNotices(t *testing.T) {
	b := &bare{channels: map[string][]int{}}
	var clients []int
	for range 3 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.channels[everybody] = append(b.channels[everybody], pair[0])
		clients = append(clients, pair[1])
	}
	t.Cleanup(func() {
		for _, fd := range append(b.channels[everybody], clients[0], clients[2]) {
			_ = unix.Close(fd) // they held nothing
		}
	})
	if err := unix.Close(clients[1]); err != nil {
		t.Fatal(err)
	}
	for sent := range 2 {
		b.publish(everybody, []byte("m"))
		if got := len(b.channels[everybody]); got != 2 {
			t.Fatalf("after %d messages: got %d clients, want 2", sent+1, got)
		}
	}
	for _, i := range []int{0, 2} {
		buf := make([]byte, 16)
		if n, err := unix.Read(clients[i], buf); err != nil || n != 2*len(textFrame([]byte("m"))) {
			t.Errorf("client %d: got %d bytes and %v, want two frames", i, n, err)
		}
	}
}
