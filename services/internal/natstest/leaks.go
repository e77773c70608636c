package natstest

import "go.uber.org/goleak"

// Leaks are goroutines that nats-server may leave behind although it was shut down: the
// store of a stream that a client asked for at that moment is opened after the shutdown has
// closed all stores that there were (server/filestore.go starts both goroutines, and only
// closing ends them). A server that a test forgot to stop has others, too.
func Leaks() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
	}
}
