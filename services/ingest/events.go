package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/pusher"
)

// appEvent is an event as an SDK of Pusher sends it; eventMembers are its members.
type appEvent struct {
	Name     string          `json:"name"`
	Data     json.RawMessage `json:"data"`
	Channel  string          `json:"channel"`
	Channels []string        `json:"channels"`
	SocketID string          `json:"socket_id"`
	Info     string          `json:"info"`
}

var eventMembers = []string{"name", "data", "channel", "channels", "socket_id", "info"}

// eventDepth is how deep a body may be nested: data within an event of a batch.
const eventDepth = proto.MaxDepth + 3

// postEvents is POST /apps/{app}/events.
func (s *Service) postEvents(w http.ResponseWriter, r *http.Request, c *appCall) error {
	var e appEvent
	answer, err := s.publishEvents(w, r, c, func(body []byte) ([]appEvent, error) {
		err := decodeStrictly(body, &e, "", eventMembers)
		return []appEvent{e}, err
	}, func(int) string { return "" })
	if err != nil {
		return err
	}
	if e.Info == "" {
		httpx.WriteJSON(w, http.StatusOK, struct{}{})
		return nil
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"channels": answer})
	return nil
}

// postBatch is POST /apps/{app}/batch_events.
func (s *Service) postBatch(w http.ResponseWriter, r *http.Request, c *appCall) error {
	var events []appEvent
	at := func(i int) string { return "/batch/" + strconv.Itoa(i) }
	answer, err := s.publishEvents(w, r, c, func(body []byte) ([]appEvent, error) {
		var batch struct {
			Batch []json.RawMessage `json:"batch"`
		}
		if err := decodeStrictly(body, &batch, "", []string{"batch"}); err != nil {
			return nil, err
		}
		if len(batch.Batch) == 0 {
			return nil, proto.ProblemInvalidMessage.With("batch: missing or empty").At("/batch")
		}
		events = make([]appEvent, len(batch.Batch))
		for i, b := range batch.Batch {
			if err := decodeStrictly(b, &events[i], at(i), eventMembers); err != nil {
				return nil, err
			}
			if len(events[i].Channels) > 0 {
				return nil, proto.ProblemInvalidMessage.With("an event of a batch has one channel").
					At(at(i) + "/channels")
			}
		}
		return events, nil
	}, at)
	if err != nil {
		return err
	}
	asked := false
	list := make([]attributes, len(events))
	for i, e := range events {
		if e.Info != "" {
			asked = true
			list[i] = answer[e.Channel]
		}
	}
	if !asked {
		httpx.WriteJSON(w, http.StatusOK, struct{}{})
		return nil
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"batch": list})
	return nil
}

// publishEvents checks all events of a request, publishes them in their order, and
// returns the attributes that were asked for, by channel. at is the pointer to an
// event in the body. Errors are problems.
func (s *Service) publishEvents(w http.ResponseWriter, r *http.Request, c *appCall,
	parse func([]byte) ([]appEvent, error), at func(int) string) (map[string]attributes, error) {
	m, err := s.newMeter(w, c.grant) // before the request is looked at: one that is refused counts, too
	if err != nil {
		return nil, err
	}
	o, err := s.origin(r, c.grant)
	if err != nil {
		return nil, err
	}
	if err := checkEncoding(w, r, "application/json"); err != nil {
		return nil, err
	}
	body, free, err := s.body(w, r, c)
	defer free()
	if err != nil {
		return nil, err
	}
	events, err := parse(body)
	if err == nil {
		err = checkText(body)
	}
	if err != nil {
		return nil, err
	}
	pubs := make([]proto.Publication, len(events))
	counts := map[string]bool{} // of the channels for which it was asked
	for i := range events {
		if pubs[i], err = s.publication(c, &events[i], at(i)); err == nil {
			err = m.count(&pubs[i], at(i))
		}
		wanted := false
		if err == nil {
			// "Events", info: each channel gets the attributes that it has, and none here has users.
			wanted, err = info(events[i].Info, userCount)
		}
		if err != nil {
			return nil, err
		}
		if events[i].Info != "" {
			for _, name := range events[i].targets() {
				counts[name] = counts[name] || wanted
			}
		}
	}
	_, err = s.sendAll(r.Context(), o, slices.All(pubs), m.messages)
	// without deadlines the server's own holds
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	if err != nil || len(counts) == 0 {
		return nil, err
	}
	return s.attributesAfter(r, c, counts)
}

// attributesAfter asks for the attributes of channels that were published to. The
// events are stored by now, so that what cannot be asked is left out.
func (s *Service) attributesAfter(r *http.Request, c *appCall, counts map[string]bool) (map[string]attributes, error) {
	out := map[string]attributes{}
	var names []string
	for name, wanted := range counts {
		out[name] = attributes{}
		if wanted {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return out, nil
	}
	found, err := s.askGateways(r.Context(), c.grant.KeyID, pusher.ChannelsQuery{App: c.app.ID, Names: names})
	if err != nil {
		s.log.Warn("an app's event is stored, and its subscribers cannot be counted", "app", c.app.ID, "err", err)
		return out, nil
	}
	for _, name := range names {
		out[name] = attributesOf(found[name], true)
	}
	return out, nil
}

// targets are the channels of an event, each once.
func (e *appEvent) targets() []string {
	if e.Channel != "" {
		return []string{e.Channel}
	}
	var out []string
	for _, name := range e.Channels {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// socketID is what a connection of this protocol is called.
var socketID = regexp.MustCompile(`^[0-9]{1,20}\.[0-9]{1,20}$`)

// publication checks an event, and returns it in Herald's words. Errors are problems
// that point below at.
func (s *Service) publication(c *appCall, e *appEvent, at string) (p proto.Publication, err error) {
	fault := func(field, format string, args ...any) (proto.Publication, error) {
		return p, proto.ProblemInvalidMessage.With(fmt.Sprintf(format, args...)).At(at + field)
	}
	if e.Name == "" {
		return fault("/name", "name: missing; every event has one")
	}
	if p.Event, err = pusher.Event(e.Name); err != nil {
		return fault("/name", "name: %s", err)
	}
	if len(e.Data) == 0 || string(e.Data) == "null" {
		return fault("/data", "data: missing; every event has some, as a string")
	}
	switch {
	case e.Channel != "" && len(e.Channels) > 0:
		return fault("/channels", "channel and channels: want one of them")
	case e.Channel == "" && len(e.Channels) == 0:
		return fault("/channel", "channel: missing; an event goes to a channel")
	case len(e.Channels) > proto.MaxChannels:
		return fault("/channels", "%d channels, at most %d are allowed", len(e.Channels), proto.MaxChannels)
	case e.SocketID != "" && !socketID.MatchString(e.SocketID):
		return fault("/socket_id", "socket_id: %.40q; want two numbers with a point between", e.SocketID)
	}
	p.Except = e.SocketID
	for _, name := range e.targets() {
		channel, err := c.app.Channel(name)
		if kind, _ := pusher.KindOf(name); err == nil && (kind == pusher.Presence || kind == pusher.Encrypted) {
			err = fmt.Errorf("%s: presence and encrypted channels are not supported by this server", name)
		}
		if err != nil {
			field := "/channel"
			if e.Channel == "" {
				field = "/channels/" + strconv.Itoa(slices.Index(e.Channels, name))
			}
			return fault(field, "%s", err)
		}
		p.Channels = append(p.Channels, channel)
	}
	p.Data = pusher.Data(e.Data)
	if err := s.checkSize(p.Data, at+"/data"); err != nil {
		return p, err
	}
	if err := p.Check(math.MaxInt); err != nil {
		return fault("/data", "%s", err)
	}
	return p, nil
}

// checkText refuses JSON that would not be stored as it was sent: encoding/json has then chosen between two equal keys,
// or replaced bytes that are not UTF-8 or half of a surrogate pair. Errors are problems.
func checkText(body []byte) error {
	err := proto.CheckJSON(body, eventDepth)
	var field *proto.FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &field):
		return proto.ProblemInvalidMessage.With(err.Error()).At(field.Field)
	case !utf8.Valid(body):
		return proto.ProblemInvalidJSON.With(err.Error())
	}
	return proto.ProblemInvalidMessage.With(err.Error())
}

// decodeStrictly reads one JSON object that has no members but the known ones, by their exact names. Errors are
// problems that point below at.
func decodeStrictly(body []byte, into any, at string, known []string) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			return proto.ProblemInvalidJSON.With("the body has more than one JSON value")
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil { // it has been read already
			return invalidJSON(body, err)
		}
		for _, name := range slices.Sorted(maps.Keys(members)) { // encoding/json knows "Name", too
			if !slices.Contains(known, name) {
				return unknownMember(name, at)
			}
		}
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return invalidJSON(body, nil)
	}
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		quoted, _ := strings.CutPrefix(err.Error(), "json: unknown field ")
		name, _ := strconv.Unquote(quoted) // as encoding/json quotes it
		return unknownMember(name, at)
	}
	want := "a string"
	switch wrong.Field {
	case "":
		return proto.ProblemInvalidMessage.With("want a JSON object, got a JSON " + wrong.Value).At(at)
	case "channels":
		want = "an array of strings"
	case "batch":
		want = "an array of events"
	}
	return proto.ProblemInvalidMessage.With(wrong.Field + ": want " + want).At(at + proto.Pointer(wrong.Field))
}

func unknownMember(name, at string) error {
	return proto.ProblemInvalidMessage.With(fmt.Sprintf("%.60q: unknown member", name)).At(at + proto.Pointer(name))
}
