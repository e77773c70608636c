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
)

// Query asks the stream for messages of one channel or pattern, in order.
type Query struct {
	// Pattern is a channel or pattern; ">" is all.
	Pattern string
	// From is the first sequence wanted; 0 counts as 1.
	From uint64
	// Batch and MaxBytes bound one answer. The server may send less; it
	// always sends one message, however large. MaxBytes 0 is 8 MiB.
	Batch    int
	MaxBytes int
}

// Page is the answer to a Query.
type Page struct {
	Messages []Received
	// More says that there are further ones after the last of Messages, which
	// are never none then.
	More bool
}

// fetchIdle is how long a batch may pause before it counts as broken off.
const fetchIdle = 5 * time.Second

// maxAnswer is the size of one answer where the caller does not say. The
// server's own limit (max_pending, 64 MiB) is also where it cuts off a
// connection that reads too slowly.
const maxAnswer = 8 << 20

// maxLast is how many channels the server answers a FetchLast for (it has no
// setting for it).
const maxLast = 1024

// maxNewest is from how many bytes on a FetchLast asks for no further answer: it
// holds two of them at most.
const maxNewest = maxAnswer * 3 / 2

// ErrTooManyChannels is wrapped by FetchLast's error when its patterns take in
// more than 1024 channels, or their messages need a third answer.
var ErrTooManyChannels = errors.New("the patterns take in more than 1024 channels")

// Fetch reads one page by batched direct get (NATS ADR-31): any replica
// answers, no consumer is made. An empty page means that nothing is stored
// at or after From that matches. Without a stream the error is
// nats.ErrNoResponders, at once.
func Fetch(ctx context.Context, nc *nats.Conn, q Query) (Page, error) {
	batch, maxBytes := max(1, q.Batch), q.MaxBytes
	if maxBytes <= 0 {
		maxBytes = maxAnswer
	}
	var page Page
	for from := max(1, q.From); ; {
		req, err := json.Marshal(struct {
			Seq      uint64 `json:"seq"`
			Batch    int    `json:"batch"`
			MaxBytes int    `json:"max_bytes"`
			Next     string `json:"next_by_subj"`
		}{from, batch, maxBytes, proto.StoredSubject(q.Pattern)})
		if err != nil {
			return Page{}, fmt.Errorf("fetch: %w", err)
		}
		end, err := direct(ctx, nc, req, batch, func(msg *nats.Msg) {
			if r, err := Read(msg); err == nil { // else somebody else's under our subjects: nothing to deliver
				page.Messages = append(page.Messages, fetched(r))
			}
		})
		if status := (*statusError)(nil); errors.As(err, &status) && status.code == "404" {
			return page, nil
		}
		if err != nil {
			return Page{}, fmt.Errorf("fetch from stream %s: %w", proto.Stream, err)
		}
		page.More = end.pending > 0
		if !page.More || len(page.Messages) > 0 {
			return page, nil
		}
		if end.last < from {
			return Page{}, fmt.Errorf("fetch from stream %s: the answer ended before %d without a message, with %d to come", proto.Stream, from, end.pending)
		}
		from = end.last + 1 // a batch of nothing but foreign messages: look behind it
	}
}

// FetchLast reads the newest stored message of each channel that the patterns
// take in, at most upTo (0: now), in stream order. upTo is a sequence that the
// stream has reached. More than 1024 channels, or more than maxNewest, are
// ErrTooManyChannels.
func FetchLast(ctx context.Context, nc *nats.Conn, patterns []string, upTo uint64) ([]Received, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	subjects := make([]string, len(patterns))
	for i, p := range patterns {
		subjects[i] = proto.StoredSubject(p)
	}
	var out []Received
	counted, bytes := 0, 0
	for from := uint64(0); ; {
		req, err := json.Marshal(struct {
			Multi    []string `json:"multi_last"`
			MaxBytes int      `json:"max_bytes"`
			Seq      uint64   `json:"seq,omitempty"`
			UpTo     uint64   `json:"up_to_seq,omitempty"`
		}{subjects, maxAnswer, from, upTo})
		if err != nil {
			return nil, fmt.Errorf("fetch last: %w", err)
		}
		end, err := direct(ctx, nc, req, maxLast, func(msg *nats.Msg) {
			if r, err := Read(msg); err == nil {
				out = append(out, fetched(r))
			}
		})
		if status := (*statusError)(nil); errors.As(err, &status) {
			switch {
			case status.code == "413":
				err = ErrTooManyChannels
			case status.code == "404" && status.description != "Message Not Found": // that one was there, but could not be read
				err = nothingUpTo(ctx, nc, patterns, upTo)
				if err == nil {
					return out, nil
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("fetch the last messages from stream %s: %w", proto.Stream, err)
		}
		if end.pending == 0 || end.last < from {
			return out, nil
		}
		for _, r := range out[counted:] {
			bytes += len(r.Body)
		}
		if counted = len(out); bytes > maxNewest {
			return nil, fmt.Errorf("%w, or their newest messages have more than %d MiB", ErrTooManyChannels, maxNewest>>20)
		}
		from, upTo = end.last+1, end.upTo // maxAnswer cut it
	}
}

// nothingUpTo asks the leader whether nothing is there, since a replica that
// has not reached upTo says so too: nats-server 2.15.2 answers an up_to_seq one
// past its last sequence with 404, not with what it has.
func nothingUpTo(ctx context.Context, nc *nats.Conn, patterns []string, upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	for _, p := range patterns {
		seq, err := Next(ctx, nc, p, 1)
		if err != nil {
			return err
		}
		if seq != 0 && seq <= upTo {
			return ErrBehind
		}
	}
	return nil
}

// fetched forgets what means something else in an answer: there
// Nats-Last-Sequence is the message before it in the batch, of any channel.
func fetched(r Received) Received {
	r.Last = 0
	return r
}

// LastSeq is the sequence of the newest message that the stream ever stored,
// whatever its channel and whether or not it is still kept; 0 when there was
// none.
func LastSeq(ctx context.Context, nc *nats.Conn) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchIdle)
	defer cancel()
	seq, err := lastSeq(ctx, nc)
	if err != nil {
		return 0, fmt.Errorf("ask stream %s for its last message: %w", proto.Stream, err)
	}
	return seq, nil
}

func lastSeq(ctx context.Context, nc *nats.Conn) (uint64, error) {
	req := []byte(`{"last_by_subj":"` + proto.SubjectStored + `>"}`)
	msg, err := nc.RequestWithContext(ctx, directSubject, req)
	if err != nil {
		return 0, err
	}
	if status := statusOf(msg); status == nil {
		return strconv.ParseUint(last(msg.Header, "Nats-Sequence"), 10, 64)
	} else if status.code != "404" {
		return 0, status
	}
	// Nothing is kept. If all of it expired, sequences go on where they were.
	msg, err = nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+proto.Stream, nil)
	if err != nil {
		return 0, err
	}
	var info struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
		State struct {
			LastSeq uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		return 0, err
	}
	if info.Error != nil {
		return 0, errors.New(info.Error.Description)
	}
	return info.State.LastSeq, nil
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
	upTo    uint64 // FetchLast: where the server's snapshot ends
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
			return end{number("Nats-Num-Pending"), number("Nats-Last-Sequence"), number("Nats-UpTo-Sequence")}, nil
		default:
			return end{}, status
		}
	}
}
