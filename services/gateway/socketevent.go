package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/herald-push/herald/proto"
)

// frameOf is the client frame that an event means: an object as auth may be, or its first member alone. many: the
// answer is an array, as what was asked for.
//
//	subscribe    "orders.*" | ["a","b"] | {"channels": …, "since": …}
//	unsubscribe  the same
//	auth         "TOKEN" | {"token": "TOKEN"}
func frameOf(event string, args []json.RawMessage) (f proto.ClientFrame, many bool, err error) {
	first := "channels"
	switch event {
	case proto.FrameSubscribe, proto.FrameUnsubscribe:
	case proto.FrameAuth:
		first = "token"
	default:
		return f, false, fmt.Errorf("%.60q is not an event that clients may emit; these are subscribe, "+
			"unsubscribe and auth", event)
	}
	if len(args) != 1 {
		return f, false, fmt.Errorf("%s takes one argument", event)
	}
	var members map[string]json.RawMessage
	if kind := args[0][0]; kind == '"' || kind == '[' {
		members = map[string]json.RawMessage{first: args[0]}
	} else if json.Unmarshal(args[0], &members) != nil || members == nil {
		return f, false, fmt.Errorf("%s: the argument is of the wrong kind", event)
	}
	names, many, err := takeNames(members)
	if err != nil {
		return f, many, fmt.Errorf("%s: %w", event, err)
	}
	if names != nil {
		members["channels"], _ = json.Marshal(names) // texts always marshal
	}
	members["type"], _ = json.Marshal(event) // so does a text
	whole, _ := json.Marshal(members)        // and what was unmarshalled
	f, err = proto.ParseClientFrame(whole)
	return f, many, err
}

// takeNames takes the channels out of an object's members, and those that are null, as if they were not there. names is
// nil where no channels are named; many: they are in an array.
func takeNames(members map[string]json.RawMessage) (names []string, many bool, err error) {
	maps.DeleteFunc(members, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	value, single := members["channels"], members["channel"]
	switch {
	case value != nil && single != nil:
		return nil, false, errors.New("channel and channels: want one of them")
	case value == nil:
		value = single
	}
	delete(members, "channels")
	delete(members, "channel")
	if value == nil {
		return nil, false, nil
	}
	names, err = namesIn(value)
	return names, value[0] == '[', err
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
