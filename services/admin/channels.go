package admin

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
)

// tallies is a page of counts of all gateways. limit is an address's.
type tallies struct {
	list[ask.Tally]
	limit int
}

// tallies asks for a page of counts. words are what the page calls the orders of ask.
func (s *Service) tallies(ctx context.Context, what string, values url.Values, orders []string,
	words map[string]string) (out tallies, err error) {
	q := ask.TallyQuestion{Text: values.Get("q"), Limit: ask.MaxLimit}
	limit, err := readLimit(values.Get("limit"))
	if err != nil {
		return out, err
	}
	if sort := values.Get("sort"); sort != "" {
		name, desc := strings.CutPrefix(sort, "-")
		if words[name] == "" {
			return out, proto.ProblemInvalidParameter.With(fmt.Sprintf(
				"sort: %.40q is not known; want one of %s, with a - before it for the descending order", sort,
				strings.Join(slices.Sorted(maps.Keys(words)), ", ")))
		}
		q.Sort = ask.Order{By: words[name], Desc: desc}.String()
	}
	order, err := ask.ParseOrder(q.Sort, orders...)
	if err != nil {
		return out, askProblem(err)
	}
	if order.By == "name" {
		return s.talliesByName(ctx, what, q, order, limit, values.Get("cursor"))
	}
	return s.talliesByCount(ctx, what, q, order, limit, values.Get("cursor"))
}

// talliesByName merges the gateways' pages: every name up to where one of them is cut is complete.
func (s *Service) talliesByName(ctx context.Context, what string, q ask.TallyQuestion, order ask.Order, limit int,
	cursor string) (out tallies, err error) {
	q.Cursor, q.Limit = cursor, limit
	answers, silent, err := all[ask.TallyPage](ctx, s, ask.Gateway, what, q)
	if err != nil {
		return out, err
	}
	out.Silent = sentences(silent)
	out.count(answers)
	sums, more := sum(answers), false
	var end *ask.Key
	for _, a := range answers {
		if n := len(a.Answer.Rows); a.Answer.Next != "" && n > 0 {
			more = true
			if last := a.Answer.Rows[n-1].Key(order.By); end == nil || order.Compare(last, *end) < 0 {
				end = &last
			}
		}
	}
	top := ask.NewTop[ask.Tally](order, nil, limit)
	for i := range sums {
		if k := sums[i].Key(order.By); end != nil && order.Compare(k, *end) > 0 {
			more = true
		} else if top.Wants(k) {
			top.Add(k, sums[i])
		}
	}
	out.Rows, out.Next, _ = top.Page(1 << 30) // fails only for what is no JSON, and it came as JSON
	if n := len(out.Rows); out.Next == "" && more && n > 0 {
		out.Next = order.Cursor(out.Rows[n-1].Key(order.By))
	}
	return out, nil
}

// talliesByCount asks each gateway for its largest counts, and then all of them for every name that one has named. So
// the counts are right, and a name is left out only if it is among the largest of no gateway. Pages go through the
// names that were found; a search finds others.
func (s *Service) talliesByCount(ctx context.Context, what string, q ask.TallyQuestion, order ask.Order, limit int,
	cursor string) (out tallies, err error) {
	offset, err := readOffset(cursor)
	if err != nil {
		return out, err
	}
	answers, silent, err := all[ask.TallyPage](ctx, s, ask.Gateway, what, q)
	if err != nil {
		return out, err
	}
	out.count(answers)
	sums := sum(answers)
	if len(answers) > 1 {
		var complete []ask.From[ask.TallyPage]
		for first := 0; first < len(sums); first += ask.MaxLimit {
			names := []string{}
			for _, t := range sums[first:min(first+ask.MaxLimit, len(sums))] {
				names = append(names, t.Name)
			}
			some, more, err := all[ask.TallyPage](ctx, s, ask.Gateway, what, ask.TallyQuestion{Names: names})
			if err != nil {
				return out, err
			}
			complete, silent = append(complete, some...), append(silent, more...)
		}
		sums = sum(complete)
	}
	out.Silent = sentences(silent)
	top := ask.NewTop[ask.Tally](order, nil, offset+limit)
	for i := range sums {
		if k := sums[i].Key(order.By); top.Wants(k) {
			top.Add(k, sums[i])
		}
	}
	rows, _, _ := top.Page(1 << 30)
	out.Rows = rows[min(offset, len(rows)):]
	if len(sums) > offset+limit {
		out.Next = base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, int64(offset+limit), 10))
	}
	return out, nil
}

// readOffset reads the cursor of an order that changes all the time: how many rows were seen.
func readOffset(cursor string) (int, error) {
	if cursor == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	n := 0
	if err == nil {
		n, err = strconv.Atoi(string(b))
	}
	if err != nil || n < 0 || n > 1<<20 {
		return 0, proto.ProblemInvalidParameter.With("cursor: it is none of this order; leave it out to begin anew")
	}
	return n, nil
}

// count sums up what pages say besides their rows. How many names there are in all is known where there is one gateway;
// several may share names, so that it is the most that one has, at least.
func (t *tallies) count(answers []ask.From[ask.TallyPage]) {
	for _, a := range answers {
		t.Total, t.Matched = max(t.Total, a.Answer.Total), max(t.Matched, a.Answer.Matched)
		t.limit = max(t.limit, a.Answer.Limit)
	}
}

// sum adds up the counts of each name. Rates and ids are those of the stream, which every gateway sees whole.
func sum(answers []ask.From[ask.TallyPage]) (out []ask.Tally) {
	at := map[string]int{}
	for _, a := range answers {
		for _, t := range a.Answer.Rows {
			i, ok := at[t.Name]
			if !ok {
				at[t.Name] = len(out)
				out = append(out, t)
				continue
			}
			have := &out[i]
			have.Count += t.Count
			have.Refused += t.Refused
			if have.Rate == nil || t.Rate != nil && *t.Rate > *have.Rate {
				have.Rate = t.Rate
			}
			if newer(t.LastID, have.LastID) {
				have.LastID = t.LastID
			}
		}
	}
	return out
}

// newer reports whether an id is of a later message.
func newer(a, b string) bool {
	x, errX := proto.ParseCursor(a)
	y, errY := proto.ParseCursor(b)
	return errX == nil && (errY != nil || cmp.Or(cmp.Compare(len(x.Epoch), len(y.Epoch)),
		strings.Compare(x.Epoch, y.Epoch), cmp.Compare(x.Seq, y.Seq)) > 0)
}

// channelRow is a channel or pattern that somebody follows.
type channelRow struct {
	Channel     string   `json:"channel"`
	Pattern     bool     `json:"pattern"`
	Subscribers int      `json:"subscribers"`
	Rate        *float64 `json:"rate_per_second"` // of a pattern not known
	LastID      *string  `json:"last_id"`         // null: none came lately, or it is a pattern
}

// getChannels is a page of the channels and patterns that are followed.
func (s *Service) getChannels(w http.ResponseWriter, r *http.Request, _ *call) error {
	values, err := httpx.Query(r, nil, "q", "sort", "limit", "cursor")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	found, err := s.tallies(r.Context(), ask.Channels, values, ask.ChannelOrders,
		map[string]string{"subscribers": "count", "channel": "name", "rate": "rate"})
	if err != nil {
		return err
	}
	out := list[channelRow]{Rows: []channelRow{}, Next: found.Next, Total: found.Total, Matched: found.Matched,
		Silent: found.Silent}
	for _, t := range found.Rows {
		row := channelRow{Channel: t.Name, Pattern: proto.IsPattern(t.Name), Subscribers: t.Count, Rate: t.Rate}
		if t.LastID != "" {
			row.LastID = &t.LastID
		}
		out.Rows = append(out.Rows, row)
	}
	httpx.WriteJSON(w, http.StatusOK, out)
	return nil
}

// addressRow is an address that has connections, or was refused lately.
type addressRow struct {
	Address     string `json:"address"`
	Connections int    `json:"connections"`
	Limit       int    `json:"limit"` // 0: none
	Refused     int    `json:"refused"`
}

// getAddresses is a page of the addresses, with the limit of each.
func (s *Service) getAddresses(w http.ResponseWriter, r *http.Request, _ *call) error {
	values, err := httpx.Query(r, nil, "q", "sort", "limit", "cursor")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	found, err := s.tallies(r.Context(), ask.Addresses, values, ask.AddressOrders,
		map[string]string{"connections": "count", "address": "name", "refused": "refused"})
	if err != nil {
		return err
	}
	out := list[addressRow]{Rows: []addressRow{}, Next: found.Next, Total: found.Total, Matched: found.Matched,
		Silent: found.Silent}
	for _, t := range found.Rows {
		out.Rows = append(out.Rows, addressRow{Address: t.Name, Connections: t.Count, Limit: found.limit,
			Refused: t.Refused})
	}
	httpx.WriteJSON(w, http.StatusOK, out)
	return nil
}
