package gateway

import (
	"context"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
)

// channels answers with how many followers channels and patterns have. While it makes the answer it has a number for
// each name that is followed here, since shards share names.
func (a *answers) channels(ctx context.Context, q ask.TallyQuestion) (out ask.TallyPage, err error) {
	followers := map[string]int{}
	err = a.s.hub.Look(ctx, func(seen *hub.Seen) {
		if sessionOf(seen) == nil {
			return
		}
		for i := range seen.Subscriptions() {
			if n := seen.Followers(i); n > 0 {
				followers[seen.Name(i)] += n
			}
		}
	})
	if err != nil {
		return out, err
	}
	rate := a.rates()
	return tally(q, ask.ChannelOrders, followers, func(t *ask.Tally) {
		if !proto.IsPattern(t.Name) {
			t.Rate, t.LastID = rate(t.Name)
		}
	})
}

// rateWindow is the time over which the rate of a channel is measured.
const rateWindow = time.Minute

// rates counts the messages that are kept in memory for clients that come back, and returns how many a second a channel
// had lately, and the newest id.
func (a *answers) rates() (of func(channel string) (*float64, string)) {
	type lately struct {
		messages int
		newest   hub.Late
	}
	channels, now, oldest := map[string]lately{}, time.Now(), time.Duration(0)
	complete := a.s.hub.Recent().Lately(func(m hub.Late) bool {
		age := now.Sub(m.Accepted)
		if age > rateWindow {
			return false
		}
		oldest = max(oldest, age)
		c, known := channels[m.Channel]
		if !known {
			c.newest = m
		}
		c.messages++
		channels[m.Channel] = c
		return true
	})
	window := min(rateWindow, now.Sub(a.wall))
	if !complete {
		window = oldest
	}
	return func(channel string) (*float64, string) {
		c := channels[channel]
		rate := float64(c.messages) / max(window.Seconds(), 1)
		if c.messages == 0 {
			return &rate, ""
		}
		return &rate, c.newest.Message().ID
	}
}

// addresses answers with how many connections addresses have here, and how many of them were refused lately.
func (a *answers) addresses(_ context.Context, q ask.TallyQuestion) (ask.TallyPage, error) {
	ips := a.s.ips
	ips.mu.Lock()
	count := maps.Clone(ips.count)
	ips.mu.Unlock()
	refused := a.refusals.ByAddress(httpx.AddressGroup)
	for g := range refused { // who has no connection may be the one that is looked for
		if _, ok := count[g]; !ok {
			count[g] = 0
		}
	}
	counts, turnedAway := make(map[string]int, len(count)), make(map[string]int, len(refused))
	for g, n := range count {
		counts[groupText(g)] = n
	}
	for g, n := range refused {
		turnedAway[groupText(g)] = n
	}
	out, err := tally(q, ask.AddressOrders, counts, func(t *ask.Tally) { t.Refused = turnedAway[t.Name] })
	out.Limit = a.s.rules.Load().cfg.MaxPerIP
	return out, err
}

// groupText is a group of addresses for people: an address where it is one.
func groupText(g netip.Prefix) string {
	if g.IsSingleIP() {
		return g.Addr().String()
	}
	return g.String()
}

// tally is the page of counts that is asked for. complete fills in what rows have besides.
func tally(q ask.TallyQuestion, orders []string, counts map[string]int, complete func(*ask.Tally)) (out ask.TallyPage,
	err error) {
	order, err := ask.ParseOrder(q.Sort, orders...)
	if err != nil {
		return out, err
	}
	after, err := order.After(q.Cursor)
	if err != nil {
		return out, err
	}
	limit, err := ask.Limit(q.Limit)
	if err != nil {
		return out, err
	}
	out.Total = len(counts)
	if q.Names != nil {
		limit = len(q.Names)
		some := make(map[string]int, len(q.Names))
		for _, name := range q.Names {
			if n, ok := counts[name]; ok {
				some[name] = n
			}
		}
		counts = some
	}
	top := ask.NewTop[ask.Tally](order, after, limit)
	for name, n := range counts {
		if q.Text != "" && !strings.Contains(name, q.Text) {
			continue
		}
		out.Matched++
		row := ask.Tally{Name: name, Count: n}
		if order.By != "count" && order.By != "name" {
			complete(&row)
		}
		if k := row.Key(order.By); top.Wants(k) {
			top.Add(k, row)
		}
	}
	out.Rows, out.Next, err = top.Page(pageBytes)
	for i := range out.Rows {
		complete(&out.Rows[i])
	}
	return out, err
}
