//go:build !linux

package conn

import (
	"context"
	"errors"
	"net"
)

// poller exists on Linux only; elsewhere goroutines wait for sockets.
type poller struct{}

type descriptor struct{ blocking }

var errNoPoller = errors.New("this system has no epoll")

func newPollers(int) ([]*poller, error) { return nil, errNoPoller }

func (*poller) run(context.Context)              {}
func (*poller) watch(*Conn)                      {}
func (*poller) readable(*Conn)                   {}
func (*poller) adopt(net.Conn) *descriptor       { return nil }
func (*descriptor) writeNow([]byte) (int, error) { return 0, errNoPoller }
