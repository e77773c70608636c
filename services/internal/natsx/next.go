package natsx

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Next asks the stream's leader for the first sequence at or after from that
// is stored and that the pattern takes in; 0 means that there is none. Fetch
// may be answered by a replica that lags behind; the leader knows. Like
// Fetch, it passes over what Read refuses.
func Next(ctx context.Context, nc *nats.Conn, pattern string, from uint64) (uint64, error) {
	for {
		m, err := next(ctx, nc, pattern, from)
		if err != nil || m.Seq == 0 {
			return 0, err
		}
		if _, err := Read(&nats.Msg{Subject: m.Subject, Data: m.Data}); err == nil {
			return m.Seq, nil
		}
		from = m.Seq + 1
	}
}

type storedMsg struct {
	Subject string `json:"subject"`
	Seq     uint64 `json:"seq"`
	Data    []byte `json:"data"`
}

func next(ctx context.Context, nc *nats.Conn, pattern string, from uint64) (storedMsg, error) {
	req, err := json.Marshal(struct {
		Seq  uint64 `json:"seq"`
		Next string `json:"next_by_subj"`
	}{max(1, from), proto.StoredSubject(pattern)})
	if err != nil {
		return storedMsg{}, fmt.Errorf("next: %w", err)
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+proto.Stream, req)
	if err != nil {
		return storedMsg{}, fmt.Errorf("ask the leader of stream %s: %w", proto.Stream, err)
	}
	var answer struct {
		Message storedMsg `json:"message"`
		Error   *struct {
			ErrCode     jetstream.ErrorCode `json:"err_code"` // code is 404 without a stream, too
			Description string              `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return storedMsg{}, fmt.Errorf("ask the leader of stream %s: %w", proto.Stream, err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message, nil
	case answer.Error.ErrCode == jetstream.JSErrCodeMessageNotFound:
		return storedMsg{}, nil
	default:
		return storedMsg{}, fmt.Errorf("ask the leader of stream %s: %s", proto.Stream, answer.Error.Description)
	}
}
