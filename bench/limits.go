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

// bytesOfBoth is the memory that a connection is reckoned with, both ends and both
// processes, garbage of the rush included.
const bytesOfBoth = 24 << 10

// limits reads those of this machine. gateways is the number of gateway
// processes; 0: as many as it takes.
func limits(gateways int) ([]limit, error) {
	available, err := availableMemory()
	if err != nil {
		return nil, err
	}
	l := []limit{
		{fmt.Sprintf("%d MB of free memory", available>>20), available / bytesOfBoth},
		{"the addresses of 127.0.0.0/8", sources},
	}
	if gateways > 0 {
		most := openFiles() - spareFiles
		l = append(l, limit{fmt.Sprintf("%d open files in each of %d gateways", openFiles(), gateways), gateways * most})
	}
	for _, f := range []struct {
		path, what string
		most       func(v []int) int
	}{
		// In use, free, most. Each end is an open file.
		{"/proc/sys/fs/file-nr", "fs.file-max", func(v []int) int { return (v[2] - v[0]) / 2 }},
		{"/proc/sys/net/netfilter/nf_conntrack_max", "nf_conntrack_max", func(v []int) int { return v[0] - 1000 }},
		// Pages. A message that all get takes one or two of each connection.
		{"/proc/sys/net/ipv4/tcp_mem", "net.ipv4.tcp_mem", func(v []int) int { return v[2] / 2 }},
	} {
		v, err := numbersIn(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no connection tracking
		}
		if err != nil {
			return nil, err
		}
		l = append(l, limit{fmt.Sprintf("%s of %d", f.what, v[len(v)-1]), f.most(v)})
	}
	return l, nil
}

// within is how many of n connections these limits allow, 0 of 0 being as
// many as they do, and which of them is the reason for less than n.
func within(n int, limits []limit) (most int, reason string) {
	most = n
	for _, l := range limits {
		if most == 0 || l.most < most {
			most, reason = max(0, l.most), l.what
		}
	}
	return most, reason
}

// numbersIn reads a file of nothing but numbers.
func numbersIn(path string) (v []int, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("limits of this machine: %w", err)
	}
	for _, f := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("limits of this machine: %s: %w", path, err)
		}
		v = append(v, n)
	}
	if len(v) == 0 {
		return nil, fmt.Errorf("limits of this machine: %s is empty", path)
	}
	return v, nil
}

// availableMemory is what programs can still have, in bytes: of the machine, or
// of the control group that this process is in.
func availableMemory() (int, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	_, after, ok := strings.Cut(string(b), "MemAvailable:")
	if !ok {
		return 0, errors.New("free memory: /proc/meminfo does not say")
	}
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	available := kb << 10
	most, err1 := numbersIn("/sys/fs/cgroup/memory.max") // of a container; "max" is no number
	used, err2 := numbersIn("/sys/fs/cgroup/memory.current")
	if err1 == nil && err2 == nil {
		available = min(available, most[0]-used[0])
	}
	return available, nil
}
