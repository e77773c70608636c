//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// limit is one of this machine's on how many connections it can hold both ends of.
type limit struct {
	what string
	most int
}

// bytesOfBoth is the memory that both ends of a connection need at most, in both
// processes, with the garbage of the handshakes.
const bytesOfBoth = 24 << 10

// limits reads those of this machine. gateways is the number of gateway
// processes; 0: as many as it takes.
func limits(gateways int) (list []limit, err error) {
	list = []limit{{"the addresses of 127.0.0.0/8", sources}}
	if gateways > 0 {
		list = append(list, limit{fmt.Sprintf("%d open files in each of %d gateways", openFiles(), gateways), gateways * socketsOfAProcess()})
	}
	available, err := field("/proc/meminfo", "MemAvailable:", 1)
	if err != nil {
		return nil, err
	}
	available <<= 10
	most, err1 := field("/sys/fs/cgroup/memory.max", "", 0) // of a container; "max" is no number
	used, err2 := field("/sys/fs/cgroup/memory.current", "", 0)
	if errors.Join(err1, err2) == nil {
		available = min(available, most-used)
	}
	list = append(list, limit{fmt.Sprintf("%d MB of free memory", available>>20), available / bytesOfBoth})
	for _, f := range []struct {
		path, what string
		column     int
		most       func(v int) int
	}{
		{"/proc/sys/fs/file-max", "fs.file-max", 0, func(v int) int { return v / 2 }}, // each end is an open file
		{"/proc/sys/net/netfilter/nf_conntrack_max", "nf_conntrack_max", 0, func(v int) int { return v - 1000 }},
		// Pages. A message to all takes one or two of each connection.
		{"/proc/sys/net/ipv4/tcp_mem", "net.ipv4.tcp_mem", 2, func(v int) int { return v / 2 }},
	} {
		v, err := field(f.path, "", f.column)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no connection tracking
		}
		if err != nil {
			return nil, err
		}
		list = append(list, limit{fmt.Sprintf("%s of %d", f.what, v), f.most(v)})
	}
	return list, nil
}

// within is how many of n connections these limits allow (0: as many as they allow),
// and which of them is the reason for less than n.
func within(n int, limits []limit) (most int, reason string) {
	most = n
	for _, l := range limits {
		if most == 0 || l.most < most {
			most, reason = max(0, l.most), l.what
		}
	}
	return most, reason
}

// field reads the n-th word, a number, of the line that begins with this word in a file of the kernel's.
// An empty word stands for the first line.
func field(path, begin string, n int) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("this machine: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(line, begin) && len(f) > n {
			v, err := strconv.Atoi(f[n])
			if err != nil {
				return 0, fmt.Errorf("this machine: %s: %w", path, err)
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("this machine: %s has no %q", path, begin)
}

// kernel is the memory that the kernel holds for all processes, in bytes. Sockets,
// their files and their entries in an epoll are in slabs; what waits in them is not.
type kernel struct {
	slab    float64
	sockets float64 // how many TCP sockets there are
	buffers float64 // charged to them for what waits in them
}

func readKernel() (kernel, error) {
	slab, err1 := field("/proc/meminfo", "Slab:", 1)
	sockets, err2 := field("/proc/net/sockstat", "TCP:", 8) // TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1
	pages, err3 := field("/proc/net/sockstat", "TCP:", 10)
	return kernel{float64(slab << 10), float64(sockets), float64(pages * os.Getpagesize())}, errors.Join(err1, err2, err3)
}
