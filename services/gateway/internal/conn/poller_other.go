//go:build !linux

package conn

import (
	"context"
	"errors"
	"net"
)

// poller exists on Linux only; elsewhere goroutines wait for sockets.
type poller struct{}

type descriptor struct{}

type parked interface {
	wire
	quick
}

func newPollers(int) ([]*poller, error) { return nil, errors.New("this system has no epoll") }

func (*poller) run(context.Context)                {}
func (*poller) watch(*Conn)                        {}
func (*poller) readable(*Conn)                     {}
func (*poller) adopt(*descriptor, net.Conn) parked { return nil }
