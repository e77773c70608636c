package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// shelf is one row for each way in which the filters of TestEveryFilter can tell rows apart.
func shelf() []store.Row {
	rows := []store.Row{
		entry(epochs[1], 1, "orders.eu", "paid in full"),
		entry(epochs[1], 2, "orders.us", "paid in part"),
		entry(epochs[1], 3, "orders.eu.berlin", "refused"),
		entry(epochs[1], 4, "orders", "paid"),
		entry(epochs[1], 5, "users.17", "login"),
		entry(epochs[1], 6, "users.18", "login failed"),
		entry(epochs[1], 7, "a.b.c.d.e", "deep"),
		entry(epochs[1], 8, "a.b.c.d.f", "deep"),
		entry(epochs[2], 9, "orders.eu", "paid later, of another epoch"),
	}
	rows[1].Sender, rows[5].Sender, rows[8].Sender = "web", "web", "Shop"
	rows[2].Event, rows[3].Event = "refused", "Message"
	return rows
}

// Each member of a filter by itself, and what it takes in of the shelf.
func TestEveryFilter(t *testing.T) {
	l := newLog(t)
	l.add(shelf()...)
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	for _, c := range []struct {
		name string
		f    store.Filter
		want string
	}{
		{"nothing", store.Filter{}, "1 2 3 4 5 6 7 8 9"},
		{"channel", store.Filter{Channel: "orders.eu"}, "1 9"},
		{"a channel's upper case", store.Filter{Channel: "Orders.eu"}, ""},
		{"one token", store.Filter{Channel: "orders.*"}, "1 2 9"},
		{"the rest", store.Filter{Channel: "orders.>"}, "1 2 3 9"},
		{"the first token", store.Filter{Channel: "*.eu"}, "1 9"},
		{"a token in the middle", store.Filter{Channel: "orders.*.berlin"}, "3"},
		{"every channel", store.Filter{Channel: ">"}, "1 2 3 4 5 6 7 8 9"},
		{"every channel of two tokens", store.Filter{Channel: "*.*"}, "1 2 5 6 9"},
		{"more fixed tokens than the index has", store.Filter{Channel: "a.b.c.d.*"}, "7 8"},
		{"a long channel", store.Filter{Channel: "a.b.c.d.f"}, "8"},
		{"a channel that nobody used", store.Filter{Channel: "orders.de"}, ""},
		{"allowed", store.Filter{Allowed: []string{"users.17", "a.>"}}, "5 7 8"},
		{"allowed, twice the same", store.Filter{Allowed: []string{"users.*", "users.17"}}, "5 6"},
		{"allowed, nothing", store.Filter{Allowed: []string{}}, ""},
		{"allowed, everything", store.Filter{Allowed: []string{">"}}, "1 2 3 4 5 6 7 8 9"},
		{"allowed, more than the index is asked for", store.Filter{Allowed: append(many(300), "users.18")}, "6"},
		{"sender", store.Filter{Sender: "web"}, "2 6"},
		{"sender, upper case", store.Filter{Sender: "Shop"}, "9"},
		{"sender, a beginning", store.Filter{Sender: "we"}, ""},
		{"event", store.Filter{Event: "refused"}, "3"},
		{"event, upper case", store.Filter{Event: "Message"}, "4"},
		{"after", store.Filter{After: at(7)}, "7 8 9"},
		{"before", store.Filter{Before: at(3)}, "1 2"},
		{"after and before", store.Filter{After: at(3), Before: at(5)}, "3 4"},
		{"after is included, before is not", store.Filter{After: at(4), Before: at(4)}, ""},
		{"before comes first", store.Filter{After: at(5), Before: at(2)}, ""},
		{"a nanosecond later", store.Filter{After: at(7).Add(1)}, "8 9"},
		{"another zone", store.Filter{After: at(8).In(time.FixedZone("", 5*3600))}, "8 9"},
		{"search", store.Filter{Search: "paid"}, "1 2 4 9"},
		{"search, two words", store.Filter{Search: "paid full"}, "1"},
		{"search for a sender's name", store.Filter{Search: "shop"}, ""},
		{"search for a channel's token", store.Filter{Search: "berlin"}, ""},
		{"search for an event's name", store.Filter{Search: "message"}, ""},
		{"search for the event's word in a message", store.Filter{Search: "refused"}, "3"},
	} {
		f := c.f
		f.Asc = true
		if got := numbers(l.seqs(f)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		f.Asc, f.Limit = false, 1 // newest first, and a page for each row
		if got, want := l.seqs(f), reversed(l.seqs(oldestFirst(c.f))); !slices.Equal(got, want) {
			t.Errorf("%s, newest first: got %v, want %v", c.name, got, want)
		}
	}
}

// many are channels of which no row is.
func many(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("nobody.%d", i))
	}
	return out
}

// Filters together take in what each of them does: of every pair and triple of them.
func TestFiltersTogether(t *testing.T) {
	l := newLog(t)
	l.add(shelf()...)
	parts := []struct {
		name string
		set  func(*store.Filter)
	}{
		{"channel", func(f *store.Filter) { f.Channel = "orders.>" }},
		{"allowed", func(f *store.Filter) { f.Allowed = []string{"*.eu", "users.>", "orders"} }},
		{"sender", func(f *store.Filter) { f.Sender = "shop" }},
		{"event", func(f *store.Filter) { f.Event = "message" }},
		{"after", func(f *store.Filter) { f.After = noon.Add(2 * time.Second) }},
		{"before", func(f *store.Filter) { f.Before = noon.Add(9 * time.Second) }},
		{"search", func(f *store.Filter) { f.Search = "pai*" }},
	}
	var alone []map[uint64]bool
	for _, p := range parts {
		var f store.Filter
		p.set(&f)
		fits := map[uint64]bool{}
		for _, seq := range l.seqs(f) {
			fits[seq] = true
		}
		if len(fits) == 0 || len(fits) == len(shelf()) {
			t.Fatalf("%s alone takes in %d rows of %d", p.name, len(fits), len(shelf()))
		}
		alone = append(alone, fits)
	}
	for set := range 1 << len(parts) {
		f, names := store.Filter{Asc: true}, []string{}
		var want []uint64
		for i, p := range parts {
			if set&(1<<i) != 0 {
				p.set(&f)
				names = append(names, p.name)
			}
		}
		for seq := uint64(1); seq <= uint64(len(shelf())); seq++ {
			fits := true
			for i := range parts {
				fits = fits && (set&(1<<i) == 0 || alone[i][seq])
			}
			if fits {
				want = append(want, seq)
			}
		}
		if got := l.seqs(f); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", strings.Join(names, " and "), got, want)
		}
	}
}

// What a filter may not be is refused before the file is asked, with a sentinel that tells which member is wrong.
func TestFiltersRefused(t *testing.T) {
	l := newLog(t)
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name string
		f    store.Filter
		want error
	}{
		{"an empty token", store.Filter{Channel: "a..b"}, proto.ErrChannel},
		{"a dot at the end", store.Filter{Channel: "a."}, proto.ErrChannel},
		{"a space", store.Filter{Channel: "a b"}, proto.ErrChannel},
		{"a long channel", store.Filter{Channel: long}, proto.ErrChannel},
		{"the rest in the middle", store.Filter{Channel: "a.>.b"}, proto.ErrChannel},
		{"half a wildcard", store.Filter{Channel: "a*"}, proto.ErrChannel},
		{"SQL", store.Filter{Channel: "a'; DROP TABLE messages; --"}, proto.ErrChannel},
		{"a limit above the highest", store.Filter{Limit: store.MaxLimit + 1}, store.ErrFilter},
		{"a limit below zero", store.Filter{Limit: -1}, store.ErrFilter},
		{"a cursor without an epoch", store.Filter{Cursor: "17"}, proto.ErrCursor},
		{"a cursor without a number", store.Filter{Cursor: "mib3k2x9-"}, proto.ErrCursor},
		{"a cursor with SQL", store.Filter{Cursor: "mib3k2x9-1 OR 1"}, proto.ErrCursor},
		{"a cursor beyond every row", store.Filter{Cursor: "mib3k2x9-9223372036854775808"}, proto.ErrCursor},
		{"a search without a word", store.Filter{Search: " \t\"*"}, store.ErrSearch},
		{"a search that is no UTF-8", store.Filter{Search: "a\xff"}, store.ErrSearch},
		{"a long search", store.Filter{Search: strings.Repeat("ab ", 200)}, store.ErrSearch},
		{"many words", store.Filter{Search: strings.Repeat("a ", 17)}, store.ErrSearch},
	} {
		if err := c.f.Check(); !errors.Is(err, c.want) {
			t.Errorf("%s: Check: got %v, want %v", c.name, err, c.want)
		}
		if _, err := l.Query(t.Context(), c.f); !errors.Is(err, c.want) {
			t.Errorf("%s: Query: got %v, want %v", c.name, err, c.want)
		}
		if c.f.Limit != 0 {
			continue // Export has no limit
		}
		if err := l.Export(t.Context(), c.f, func(*store.Row) error { return nil }); !errors.Is(err, c.want) {
			t.Errorf("%s: Export: got %v, want %v", c.name, err, c.want)
		}
	}
}

func oldestFirst(f store.Filter) store.Filter {
	f.Asc = true
	return f
}
