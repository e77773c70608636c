package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// messagePath is GET api/messages/{id}: the way of one message.
type messagePath struct {
	ID       string          `json:"id"`
	Channel  string          `json:"channel,omitempty"`
	Event    string          `json:"event,omitempty"`
	Sender   string          `json:"sender,omitempty"`
	Time     string          `json:"time,omitempty"`
	Bytes    int             `json:"bytes"`
	Data     json.RawMessage `json:"data,omitempty"`
	Accepted *acceptedAt     `json:"accepted"`
	Stored   *storedAt       `json:"stored"`
	Expired  bool            `json:"expired"` // the stream keeps it no longer, or its ttl is over
	Gateways []gatewayPath   `json:"gateways"`
	Log      *ask.LoggerPath `json:"log"`
	Unknown  []string        `json:"unknown"` // what cannot be known any more, and why

	silent []string // loggers that did not answer
}

type acceptedAt struct {
	Ingest  string    `json:"ingest"` // empty: not known
	Address string    `json:"address"`
	Time    time.Time `json:"time"`
	Request string    `json:"request"` // empty: not known
}

type storedAt struct {
	Sequence  uint64    `json:"sequence"` // of its pack in the stream
	PackIndex int       `json:"pack_index"`
	Time      time.Time `json:"time"`
}

type gatewayPath struct {
	Gateway   string   `json:"gateway"`
	Followers int      `json:"followers"` // of its channel, now
	Clients   int      `json:"clients"`
	Sent      int      `json:"sent"`
	Queued    int      `json:"queued"`
	Dropped   int      `json:"dropped"`
	Slowest   *float64 `json:"slowest_ms"`
	Known     bool     `json:"known"`
}

// getMessage answers with what is recorded of a message, and with what the services know of it now.
func (s *Service) getMessage(w http.ResponseWriter, r *http.Request, _ *call) error {
	text, err := pathParam(r, "id")
	if err != nil {
		return err
	}
	id, err := proto.ParseCursor(text)
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	out := &messagePath{ID: id.String(), Gateways: []gatewayPath{}, Unknown: []string{}}
	lane, gone, err := s.readStored(r.Context(), id, out)
	if err != nil {
		return err
	}
	if gone != "" {
		return s.onlyLogged(w, r, out, gone)
	}
	var wg sync.WaitGroup
	var ingests, gateways []string
	var noLog string
	wg.Go(func() { ingests = s.addAccepted(r.Context(), lane, out) })
	wg.Go(func() { gateways = s.addGateways(r.Context(), out) })
	wg.Go(func() { noLog = s.addLog(r.Context(), out) })
	wg.Wait()
	out.Unknown = append(append(out.Unknown, ingests...), gateways...)
	if noLog != "" {
		out.Unknown = append(out.Unknown, noLog)
	}
	httpx.WriteJSON(w, http.StatusOK, out)
	return nil
}

// onlyLogged answers for an id of which the stream knows nothing, which gone says why: the log may have its row, since
// it keeps those of streams that were there before.
func (s *Service) onlyLogged(w http.ResponseWriter, r *http.Request, out *messagePath, gone string) error {
	noLog := s.addLog(r.Context(), out)
	switch {
	case out.Log != nil && out.Log.Row:
		out.Expired = true
		out.Unknown = append(out.Unknown, "What became of it before the log: "+gone+".")
		httpx.WriteJSON(w, http.StatusOK, out)
		return nil
	case out.Log != nil && len(out.silent) == 0:
		gone += "; the log has no row of it"
	default:
		gone += "; whether the log has its row cannot be known now: " + noLog
	}
	return proto.ProblemNotFound.With("no message has the id " + out.ID + ": " + gone)
}

// readStored reads the message from the stream, and returns the message id of its pack. gone says why the stream has
// nothing of it, and never had as far as it knows; empty: it has, or had. Errors are problems.
func (s *Service) readStored(ctx context.Context, id proto.Cursor, out *messagePath) (lane, gone string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*streamTimeout)
	defer cancel()
	away := func(err error) error {
		return proto.ProblemUnavailable.With("the stream does not answer: " + trouble(err))
	}
	stream, err := s.js.Stream(ctx, proto.Stream)
	if err != nil {
		return "", "", away(err)
	}
	state, pack := natsx.StateOf(stream.CachedInfo()), proto.PackOf(id.Seq)
	switch {
	case id.Seq == 0 || pack == 0:
		return "", "numbers of messages are larger", nil
	case !state.Epochs.Known(id.Epoch, pack):
		return "", "the stream has no such epoch at that number: it was made anew since, or NATS lost its " +
			"end, or Herald gave out no such id", nil
	case pack > state.Last:
		return "", "the stream ends before it: NATS lost its end, or Herald gave out no such id", nil
	case pack < state.First:
		out.Expired = true
		out.Unknown = append(out.Unknown,
			fmt.Sprintf("The stream keeps messages for %s or up to its size, and this one, if there was "+
				"one, no longer. What it said may be in the log.", age(stream.CachedInfo().Config.MaxAge)))
		return "", "", nil
	}
	raw, err := stream.GetMsg(ctx, pack)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		out.Unknown = append(out.Unknown,
			"The message is gone from the middle of the stream, where Herald deletes nothing: the disk was "+
				"damaged, or somebody deleted it.")
		return "", "", nil
	}
	if err != nil {
		return "", "", away(err)
	}
	lines, err := natsx.OpenLines(raw.Subject, raw.Header, raw.Data)
	for err == nil && lines.Next() {
		if proto.Number(pack, lines.Place()) == id.Seq {
			return raw.Header.Get(nats.MsgIdHdr), "", fill(out, id, raw, &lines)
		}
	}
	if err != nil {
		return "", "what stands there in the stream is no pack of Herald's", nil
	}
	return "", "its pack in the stream has no such message", nil
}

// age is how long a stream keeps messages.
func age(d time.Duration) string {
	if d == 0 {
		return "ever"
	}
	return d.String()
}

// fill copies what the stream has of the message.
func fill(out *messagePath, id proto.Cursor, raw *jetstream.RawStreamMsg, line *proto.Lines) error {
	m, err := proto.ParseMessage(proto.AppendWithID(nil, id, line.Message()))
	if err != nil {
		return proto.ProblemNotFound.With("the stream has something else than a message under this id")
	}
	out.Channel, out.Event, out.Sender, out.Time, out.Data, out.Bytes = m.Channel, m.Event, m.Sender, m.Time, m.Data,
		len(m.Data)
	out.Stored = &storedAt{raw.Sequence, line.Place(), raw.Time.UTC()}
	out.Expired = line.Expired(time.Now().UnixMilli())
	if us := line.Accepted(); us > 0 {
		out.Accepted = &acceptedAt{Address: string(line.Source()), Time: time.UnixMicro(us).UTC()}
	}
	return nil
}

// addAccepted finds out which ingest accepted the message, in which request. It returns what is not known. The stream
// says who stored a pack, by how its message id begins; of a message with an idempotency key it does not.
func (s *Service) addAccepted(ctx context.Context, lane string, out *messagePath) (unknown []string) {
	if out.Accepted == nil {
		return nil
	}
	stats, silent, err := ask.All[ask.IngestStats](ctx, s.ask, ask.Ingest, ask.Stats, nil)
	if err != nil {
		return []string{"Which ingest accepted it: " + err.Error()}
	}
	for _, i := range stats {
		if i.Answer.Lane != "" && strings.HasPrefix(lane, i.Answer.Lane) {
			out.Accepted.Ingest = i.Instance
		}
	}
	answers, _, err := ask.All[ask.IngestPath](ctx, s.ask, ask.Ingest, ask.MessagePath, ask.PathQuestion{ID: out.ID})
	if err != nil {
		return []string{"Which request it came with: " + err.Error()}
	}
	for _, a := range answers {
		if a.Answer.Known {
			out.Accepted.Ingest, out.Accepted.Request, out.Accepted.Address = a.Instance, a.Answer.Request,
				a.Answer.Address
		}
	}
	if out.Accepted.Ingest == "" {
		unknown = append(unknown,
			"Which ingest accepted it: that one has stopped since, or does not answer, or the message has an "+
				"idempotency key.")
	}
	if out.Accepted.Request == "" {
		unknown = append(unknown,
			"Which request it came with: that is kept for the last 4096 messages of each ingest, and only "+
				"while a console shows a tail or a path.")
	}
	for _, who := range silent {
		unknown = append(unknown, "What "+who+" knows.")
	}
	return unknown
}

// addGateways asks what became of the message at each gateway, and returns what is not known.
func (s *Service) addGateways(ctx context.Context, out *messagePath) (unknown []string) {
	answers, silent, err := ask.All[ask.GatewayPath](ctx, s.ask, ask.Gateway, ask.MessagePath,
		ask.PathQuestion{ID: out.ID, Channel: out.Channel})
	if err != nil {
		return []string{"Its deliveries: " + err.Error()}
	}
	for _, a := range answers {
		p := gatewayPath{Gateway: a.Instance, Followers: a.Answer.Followers, Clients: a.Answer.Clients,
			Sent: a.Answer.Sent, Queued: a.Answer.Queued, Dropped: a.Answer.Dropped, Known: a.Answer.Known}
		if a.Answer.Known && a.Answer.Clients > 0 {
			p.Slowest = &a.Answer.Slowest
		}
		if !a.Answer.Known && a.Answer.Since != nil {
			unknown = append(unknown,
				fmt.Sprintf("Its deliveries at gateway %s: they are kept for the last 4096 messages, and only "+
					"while a console shows a tail or a path; here since %s.", a.Instance,
					a.Answer.Since.UTC().Format(time.RFC3339)))
		}
		out.Gateways = append(out.Gateways, p)
	}
	for _, who := range silent {
		unknown = append(unknown, "What "+who+" knows.")
	}
	return unknown
}

// addLog asks for the message's row, and returns why it is not known.
func (s *Service) addLog(ctx context.Context, out *messagePath) (unknown string) {
	answers, silent, err := ask.All[ask.LoggerPath](ctx, s.ask, ask.Logger, ask.MessagePath,
		ask.PathQuestion{ID: out.ID})
	if err != nil {
		return "Its row in the log: " + err.Error()
	}
	for _, a := range answers {
		if out.Log == nil || a.Answer.Row {
			out.Log = &a.Answer
		}
	}
	out.silent = silent
	switch {
	case out.Log != nil && out.Log.Row:
		return ""
	case len(silent) > 0:
		return "Its row in the log: what " + strings.Join(silent, ", ") + " knows."
	case out.Log == nil:
		return "Its row in the log: no logger runs."
	case out.Log.Later:
		return "When its row left the log: those of later messages are there, and retention, or somebody, " +
			"has deleted this one."
	}
	return "Its row in the log: there is none yet, nor of any later message; the logger writes in batches. Ask again."
}
