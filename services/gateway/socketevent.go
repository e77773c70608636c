package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/herald-push/herald/proto"
)

// frameOf is the client frame that an event means. many: the answer is an array.
//
//	subscribe    "orders.*" | ["a","b"] | {"channels": …, "since": …}
//	unsubscribe  the same
//	auth         "TOKEN" | {"token": "TOKEN"}
func frameOf(event string, args []json.RawMessage) (f proto.ClientFrame, many bool, err error) {
	switch event {
	case proto.FrameSubscribe, proto.FrameUnsubscribe, proto.FrameAuth:
	default:
		return f, false, fmt.Errorf("%.60q is not an event that clients may emit; these are subscribe, "+
			"unsubscribe and auth", event)
	}
	if len(args) != 1 {
		return f, false, fmt.Errorf("%s takes one argument", event)
	}
	var text string
	f.Type = event
	if args[0][0] == '"' && json.Unmarshal(args[0], &text) == nil {
		if event == proto.FrameAuth {
			f.Token = text
		} else {
			f.Channel = text
		}
		if text == "" {
			err = fmt.Errorf("%s: the text is empty", event)
		}
		return f, false, err
	}
	if args[0][0] == '[' && event != proto.FrameAuth {
		if f.Channels, err = namesIn(args[0]); err != nil {
			return f, true, fmt.Errorf("%s: %w", event, err)
		}
	} else {
		var members map[string]json.RawMessage
		if json.Unmarshal(args[0], &members) != nil || members == nil {
			return f, false, fmt.Errorf("%s: the argument is of the wrong kind", event)
		}
		members["type"], _ = json.Marshal(event) // a text always marshals
		whole, _ := json.Marshal(members)        // so does what was unmarshalled
		f, err = proto.ParseClientFrame(whole)
		return f, len(f.Channels) > 0, err
	}
	if n := len(f.Channels); n == 0 || n > proto.MaxChannels {
		err = fmt.Errorf("%s: %d channels; from 1 to %d are allowed", event, n, proto.MaxChannels)
	}
	return f, true, err
}

// namesIn reads one name, which may be empty for none, or an array of names, and drops
// repetitions.
func namesIn(value json.RawMessage) (names []string, err error) {
	var one string
	var all []*string
	switch {
	case value[0] == '"' && json.Unmarshal(value, &one) == nil:
		if one == "" {
			return []string{}, nil
		}
		return []string{one}, nil
	case json.Unmarshal(value, &all) != nil || slices.Contains(all, nil):
		return nil, errors.New("channels is neither a text nor an array of texts")
	}
	names = []string{}
	seen := map[string]bool{}
	for _, name := range all {
		if *name == "" {
			return nil, errors.New("channels has an empty name")
		}
		if !seen[*name] {
			names, seen[*name] = append(names, *name), true
		}
	}
	return names, nil
}
