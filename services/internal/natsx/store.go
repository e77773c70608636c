package natsx

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// codeDeleteFailed is JSStreamMsgDeleteFailedF of nats-server.
const codeDeleteFailed jetstream.ErrorCode = 10057

// notThere are the reasons for which nats-server does not delete a message of
// a store that works: store.go, and jetstream_api.go for a stream that forbids
// it.
var notThere = map[string]bool{
	"stream store EOF": true, "no message found": true, "message delete not permitted": true,
}

// AskStore asks whether the stream's store still writes; fault is nil if it
// does, or cannot be asked by this way. nats-server keeps the first write error
// until it is restarted, and does not answer publishers from then on; no answer
// about the stream has a word of it. But whoever asks to delete a message is
// told that error before the message is looked for (removeMsg in filestore.go,
// 2.15.2), so AskStore asks for the highest sequence that there can be,
// which is never used. err says that there was no answer.
func AskStore(ctx context.Context, nc *nats.Conn) (fault, err error) {
	req, err := json.Marshal(struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{math.MaxUint64, true})
	if err != nil {
		return nil, fmt.Errorf("ask the store: %w", err)
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.DELETE."+proto.Stream, req)
	if err != nil {
		return nil, fmt.Errorf("ask the store of stream %s: %w", proto.Stream, err)
	}
	var answer struct {
		Error *struct {
			ErrCode     jetstream.ErrorCode `json:"err_code"`
			Description string              `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, fmt.Errorf("ask the store of stream %s: %w", proto.Stream, err)
	}
	if e := answer.Error; e != nil && e.ErrCode == codeDeleteFailed && !notThere[e.Description] {
		return fmt.Errorf("the store of stream %s has failed, until NATS is restarted: %s", proto.Stream,
			e.Description), nil
	}
	return nil, nil
}
