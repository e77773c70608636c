package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/herald-push/herald/proto"
)

// someNames are channels and patterns to follow, and the end.
func someNames(random *rand.Rand) []string {
	if random.IntN(6) == 0 {
		return []string{">"}
	}
	names := []string{"the.end"}
	for _, name := range append([]string{"a.>", "*.x", "b.*.z", "b.>"}, modelChannels...) {
		if random.IntN(4) == 0 {
			names = append(names, name)
		}
	}
	return names
}

// session connects, and calls each for every message, until it reports false, the
// connection ends, or for so long. What only says how far the client has everything is a
// message without a channel. A gap is an error.
func (m *modelRun) session(names []string, since string, until time.Time, each func(modelMessage) bool) error {
	q := url.Values{"channel": names}
	if since != "" {
		q.Set("since", since)
	}
	ws, resp, err := websocket.DefaultDialer.Dial("ws://"+m.ws+"/ws?"+q.Encode(), nil)
	if err != nil {
		return nil // while it does not follow the stream: try again
	}
	_ = resp.Body.Close()
	defer func() { _ = ws.Close() }()
	for {
		_ = ws.SetReadDeadline(until)
		_, b, err := ws.ReadMessage()
		if err != nil {
			return nil
		}
		var f struct {
			Type, ID, Channel, Reason string
			Data                      json.RawMessage
		}
		if err := json.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("%s: %w", b, err)
		}
		var cur proto.Cursor
		if f.ID != "" {
			if cur, err = proto.ParseCursor(f.ID); err != nil {
				return fmt.Errorf("%s: %w", b, err)
			}
		}
		switch f.Type {
		case "", proto.FrameWelcome, proto.FramePosition:
			if f.Type != "" {
				f.Channel = ""
			}
			if !each(modelMessage{channel: f.Channel, data: string(f.Data), id: f.ID, number: cur.Seq,
				ephemeral: f.ID == ""}) {
				return nil
			}
		case proto.FrameGap:
			return fmt.Errorf("%q since %s: %s", names, since, b)
		}
	}
}

// follow is a client that stays, or comes back with the newest id that it has, be it of
// a message or of a place.
func (m *modelRun) follow(random *rand.Rand) {
	r := transcript{what: "a client that comes back", names: someNames(random)}
	since := proto.SinceAll
	if random.IntN(2) == 0 {
		since = "" // from where it is told that it begins
	}
	ended := false
	over := time.Time{} // when this reader first saw that nothing more is published
	for !ended && (over.IsZero() || time.Since(over) < 5*time.Minute) {
		select {
		case <-m.over:
			if over.IsZero() {
				over = time.Now()
			}
		default:
		}
		until := time.Now().Add(time.Duration(20+random.IntN(1500)) * time.Millisecond)
		err := m.session(r.names, since, until, func(got modelMessage) bool {
			switch {
			case got.ephemeral:
				return true
			case got.channel != "":
				r.got = append(r.got, got)
			case since == "":
				r.since = got.number
			}
			since = got.id
			ended = got.channel == "the.end"
			return !ended
		})
		if err != nil {
			m.t.Error(err)
			return
		}
	}
	if !ended {
		m.t.Errorf("a client of %q does not come to the end; it has %d messages and the place %q", r.names,
			len(r.got), since)
		return
	}
	<-m.over
	r.upTo = m.last.number
	m.keep(r)
}

// at is the id of a place. There is one epoch: NATS is not started anew.
func (m *modelRun) at(number uint64) string {
	return proto.Cursor{Epoch: m.epochs.Newest(), Seq: number}.String()
}

func (m *modelRun) keep(r transcript) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.transcripts = append(m.transcripts, r)
}

// known are two ids that publishers were told, the older one first; ok is false before
// there are any.
func (m *modelRun) known(random *rand.Rand) (older, newer proto.Cursor, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ids) < 2 {
		return older, newer, false
	}
	a, err1 := proto.ParseCursor(m.ids[random.IntN(len(m.ids))])
	b, err2 := proto.ParseCursor(m.ids[random.IntN(len(m.ids))])
	if err := errors.Join(err1, err2); err != nil {
		m.t.Error(err)
		return older, newer, false
	}
	if a.Seq > b.Seq {
		a, b = b, a
	}
	return a, b, a.Seq < b.Seq
}

// ask resumes at random ids, and reads pages of history, while everything goes on.
func (m *modelRun) ask(random *rand.Rand) {
	for {
		select {
		case <-m.over:
			return
		case <-time.After(time.Duration(random.IntN(40)) * time.Millisecond):
		}
		from, upTo, ok := m.known(random)
		if !ok {
			continue
		}
		if random.IntN(2) == 0 {
			m.pages(random, modelChannels[random.IntN(len(modelChannels))], from)
			continue
		}
		r := transcript{what: "a client that resumed", names: []string{">"}, since: from.Seq}
		err := m.session(r.names, from.String(), time.Now().Add(2*time.Minute), func(got modelMessage) bool {
			if got.ephemeral || got.channel == "" {
				return true
			}
			r.got = append(r.got, got)
			r.upTo = got.number
			return got.number < upTo.Seq
		})
		if err != nil {
			m.t.Error(err)
			return
		}
		m.keep(r)
	}
}

// pages reads the history of a channel, or of a pattern, to its end.
func (m *modelRun) pages(random *rand.Rand, name string, from proto.Cursor) {
	r := transcript{what: "history", names: []string{name}, since: from.Seq, upTo: from.Seq}
	since := from.String()
	for more := true; more; {
		req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet,
			fmt.Sprintf("%s/v1/channels/%s/messages?since=%s&limit=%d", m.api, url.PathEscape(name), since,
				1+random.IntN(60)),
			nil)
		if err != nil {
			m.t.Error(err)
			return
		}
		req.Header.Set("X-API-KEY", testKey)
		resp, err := m.http.Do(req)
		if err != nil {
			m.t.Error(err)
			return
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			m.keep(r) // NATS is away: what was read is right
			return
		}
		var page struct {
			Messages []proto.Message
			Next     string
			More     bool
		}
		if err == nil {
			err = json.Unmarshal(b, &page)
		}
		next, err2 := proto.ParseCursor(page.Next)
		if err := errors.Join(err, err2); err != nil || resp.StatusCode != http.StatusOK {
			m.t.Errorf("history of %s since %s: %s %.200s, %v", name, since, resp.Status, b, err)
			return
		}
		for _, msg := range page.Messages {
			cur, err := proto.ParseCursor(msg.ID)
			if err != nil {
				m.t.Error(err)
			}
			r.got = append(r.got, modelMessage{channel: msg.Channel, data: string(msg.Data), id: msg.ID,
				number: cur.Seq})
		}
		since, more, r.upTo = page.Next, page.More, next.Seq
	}
	m.keep(r)
}

// judgeReaders holds every transcript against the stream.
func (m *modelRun) judgeReaders(stored []modelMessage) {
	kinds := map[string]int{}
	for _, r := range m.transcripts {
		kinds[r.what]++
		got := r.got
		for _, s := range stored {
			if s.number <= r.since || s.number > r.upTo ||
				!slices.ContainsFunc(r.names, func(name string) bool { return proto.Match(name, s.channel) }) {
				continue
			}
			if len(got) > 0 && got[0].id == s.id && got[0].data == s.data && got[0].channel == s.channel {
				got = got[1:]
			} else if s.expires == 0 || s.expires > time.Now().Add(time.Minute).UnixMilli() {
				// what has expired may have been seen, or not
				m.t.Errorf("%s of %q after %d: did not get %s (%.20s on %s); it got %d messages up to %d", r.what,
					r.names, r.since, s.id, s.data, s.channel, len(r.got), r.upTo)
				break
			}
		}
		if len(got) > 0 && !m.t.Failed() {
			m.t.Errorf("%s of %q after %d up to %d: got %s on %s, which is not its turn", r.what, r.names,
				r.since, r.upTo, got[0].id, got[0].channel)
		}
	}
	m.t.Logf("%d messages; readers: %v", len(stored), kinds)
}

// askCalmly asks for everything in each way when nothing is broken any more.
func (m *modelRun) askCalmly(random *rand.Rand, stored []modelMessage) {
	m.transcripts = nil
	byID := map[string]modelMessage{}
	for _, s := range stored { // what was to be kept for a second is gone first
		byID[s.id] = s
		if left := time.Until(time.UnixMilli(s.expires)); left < time.Minute {
			time.Sleep(left + time.Millisecond)
		}
	}
	begin := time.Now()
	for range 30 {
		from := stored[random.IntN(len(stored))]
		if random.IntN(2) == 0 { // from memory
			from = stored[len(stored)-1-random.IntN(200)]
		}
		names := append(someNames(random), "the.end")
		r := transcript{what: "resumed in peace", names: names, since: from.number - 1, upTo: m.last.number}
		if err := m.session(names, m.at(from.number-1), time.Now().Add(5*time.Minute), func(got modelMessage) bool {
			if got.channel != "" {
				r.got = append(r.got, got)
			}
			return got.channel != "the.end"
		}); err != nil {
			m.t.Error(err)
		}
		m.keep(r)
		m.pages(random, names[random.IntN(len(names))], proto.Cursor{Epoch: m.epochs.Newest(), Seq: from.number})
	}
	m.judgeReaders(stored)
	for _, r := range m.transcripts {
		for _, got := range r.got {
			if s := byID[got.id]; s.expires != 0 && s.expires < begin.UnixMilli() {
				m.t.Errorf("%s of %q: got %s, which had expired %s before", r.what, r.names, got.id,
					begin.Sub(time.UnixMilli(s.expires)))
			}
		}
	}
	// since=last is the newest message of each channel.
	for range 10 {
		names := append(someNames(random), "the.end")
		newest := map[string]modelMessage{}
		for _, s := range stored {
			if (s.expires == 0 || s.expires > time.Now().Add(time.Minute).UnixMilli()) &&
				slices.ContainsFunc(names, func(name string) bool { return proto.Match(name, s.channel) }) {
				newest[s.channel] = s
			}
		}
		got := map[string]string{}
		if err := m.session(names, proto.SinceLast, time.Now().Add(5*time.Minute), func(one modelMessage) bool {
			if one.channel != "" {
				got[one.channel] = one.id
			}
			return one.channel != "the.end"
		}); err != nil {
			m.t.Error(err)
		}
		for channel, want := range newest {
			if got[channel] != want.id {
				m.t.Errorf("the last of %s by %q: got %q, want %s", channel, names, got[channel], want.id)
			}
		}
		if len(got) != len(newest) {
			m.t.Errorf("the last of %q: got %v, want one for each of %d channels", names, got, len(newest))
		}
	}
}
