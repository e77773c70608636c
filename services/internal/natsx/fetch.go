package natsx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fetchIdle is how long a batch may pause before it counts as broken off.
const fetchIdle = 5 * time.Second

// fetchPacks reads packs from a stream sequence on by batched direct get (NATS
// ADR-31): any replica answers, no consumer is made. The server ends the answer
// after batch packs or maxBytes, and always sends one, however large. None means
// that the replica has nothing at or after from. A pack that is none of Herald's
// has no lines. Without a stream the error is nats.ErrNoResponders, at once.
func fetchPacks(ctx context.Context, nc *nats.Conn, from uint64, batch, maxBytes int) ([]Pack, error) {
	req, err := json.Marshal(struct {
		Seq      uint64 `json:"seq"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
		Next     string `json:"next_by_subj"`
	}{max(1, from), batch, maxBytes, ">"})
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	var packs []Pack
	_, err = direct(ctx, nc, req, batch, func(msg *nats.Msg) {
		p, err := OpenPack(msg)
		if err != nil && p.Seq == 0 {
			return // the server never sends that
		}
		packs = append(packs, p)
	})
	if status := (*statusError)(nil); errors.As(err, &status) && status.code == "404" {
		return packs, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch from stream %s: %w", proto.Stream, err)
	}
	return packs, nil
}

// nextPack asks the stream's leader for the first sequence at or after from
// that is stored; 0 means that there is none. A direct get may be answered by a
// replica that lags behind; the leader knows.
func nextPack(ctx context.Context, nc *nats.Conn, from uint64) (uint64, error) {
	req, err := json.Marshal(struct {
		Seq  uint64 `json:"seq"`
		Next string `json:"next_by_subj"`
	}{max(1, from), ">"})
	if err != nil {
		return 0, fmt.Errorf("next: %w", err)
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+proto.Stream, req)
	if err != nil {
		return 0, fmt.Errorf("ask the leader of stream %s: %w", proto.Stream, err)
	}
	var answer struct {
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
		Error *struct {
			ErrCode     jetstream.ErrorCode `json:"err_code"` // code is 404 without a stream, too
			Description string              `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return 0, fmt.Errorf("ask the leader of stream %s: %w", proto.Stream, err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message.Seq, nil
	case answer.Error.ErrCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil
	default:
		return 0, fmt.Errorf("ask the leader of stream %s: %s", proto.Stream, answer.Error.Description)
	}
}

const directSubject = "$JS.API.DIRECT.GET." + proto.Stream

// statusError is what the server answers in place of messages.
type statusError struct{ code, description string }

func (e *statusError) Error() string { return e.code + " " + e.description }

// statusOf is the status in an answer, or nil for a message, which may have a
// header of that name too, but always has a sequence.
func statusOf(msg *nats.Msg) *statusError {
	if last(msg.Header, "Nats-Sequence") != "" {
		return nil
	}
	return &statusError{first(msg.Header, "Status"), first(msg.Header, "Description")}
}

// end is what the server says after the last message of a batch.
type end struct {
	pending uint64 // matching messages after it
	last    uint64 // the sequence of the last message sent
}

// direct sends a batched direct get and calls each for every message of the
// answer, which ends with a 204 ("EOB"). Any other status is a *statusError,
// 404 where nothing matches.
func direct(ctx context.Context, nc *nats.Conn, req []byte, batch int, each func(*nats.Msg)) (end, error) {
	// Not NewRespInbox: what comes there comes a second time for the
	// connection's own subscription to all answers.
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return end{}, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := sub.SetPendingLimits(batch+1, -1); err != nil {
		return end{}, err
	}
	if err := nc.PublishRequest(directSubject, inbox, req); err != nil {
		return end{}, err
	}
	for {
		idle, cancel := context.WithTimeout(ctx, fetchIdle)
		msg, err := sub.NextMsgWithContext(idle)
		cancel()
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return end{}, fmt.Errorf("no answer within %s: %w", fetchIdle, err)
		}
		if err != nil {
			return end{}, err
		}
		switch status := statusOf(msg); {
		case status == nil:
			each(msg)
		case status.code == "204":
			number := func(name string) uint64 {
				n, _ := strconv.ParseUint(first(msg.Header, name), 10, 64) // absent is 0
				return n
			}
			return end{number("Nats-Num-Pending"), number("Nats-Last-Sequence")}, nil
		default:
			return end{}, status
		}
	}
}
