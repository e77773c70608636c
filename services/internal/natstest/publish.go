package natstest

import (
	"encoding/json"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishWindow is how many messages Publish keeps unacknowledged.
const publishWindow = 256

// publishPatience is how long Publish waits for one acknowledgement, on a busy
// machine too.
const publishPatience = leastWait

// Publish stores the messages and returns the highest sequence that JetStream
// acknowledged, once all are. The messages must each be a new one: Publish sets
// their reply subject.
//
// It stands in for nats.go's asynchronous publisher, whose goroutine that
// watches the connection outlives CleanupPublisher if it first runs after it
// (it then reads from a nil Go channel), and is reported by goleak.
func Publish(nc *nats.Conn, msgs iter.Seq[*nats.Msg]) (last uint64, err error) {
	inbox := nc.NewInbox()
	acks, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	defer func() { _ = acks.Unsubscribe() }() // fails only when the connection is closed
	unacknowledged := 0
	await := func(most int) error {
		for unacknowledged > most {
			msg, err := acks.NextMsg(publishPatience)
			if err != nil {
				return fmt.Errorf("publish: wait for an acknowledgement: %w", err)
			}
			var ack struct {
				Error *jetstream.APIError `json:"error"`
				Seq   uint64              `json:"seq"`
			}
			if err := json.Unmarshal(msg.Data, &ack); err != nil {
				return fmt.Errorf("publish: acknowledgement %q (status %q): %w", msg.Data, msg.Header.Get("Status"),
					err)
			}
			if ack.Error != nil {
				return fmt.Errorf("publish: %w", ack.Error)
			}
			last, unacknowledged = max(last, ack.Seq), unacknowledged-1
		}
		return nil
	}
	for msg := range msgs {
		if err := await(publishWindow - 1); err != nil {
			return last, err
		}
		msg.Reply = inbox
		if err := nc.PublishMsg(msg); err != nil {
			return last, fmt.Errorf("publish: %w", err)
		}
		unacknowledged++
	}
	return last, await(0)
}
