//go:build !linux

package socket

import (
	"context"
	"errors"
	"net"
)

// Pollers exist on Linux only; elsewhere goroutines wait for sockets.
type Pollers struct{}

// Parked exists on Linux only.
type Parked struct{}

// Start fails: this system has no epoll.
func (*Pollers) Start(int) error { return errors.New("this system has no epoll") }

// Run has nothing to watch.
func (*Pollers) Run(context.Context) {}

// Adopt adopts nothing.
func (*Pollers) Adopt(*Parked, net.Conn) Polled { return nil }
