//go:build linux

package main

import "time"

// heraldCommand is the gateway as it ships. There is no limit per address, as
// all clients come from a few; without a ping to measure, heartbeats stay away.
func heraldCommand(b *bench, s setup) (string, []string) {
	heartbeat := s.ping
	if heartbeat == 0 {
		heartbeat = time.Hour
	}
	args := []string{"-listen", s.addr, "-ops-listen", s.ops, "-nats", b.broker.url, "-max-connections-per-ip", "0", "-log-level", "warn", "-heartbeat", heartbeat.String()}
	if s.tls {
		args = append(args, "-tls-cert", b.cert, "-tls-key", b.key)
	}
	return b.gateway, args
}
