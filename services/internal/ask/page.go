package ask

import (
	"cmp"
	"container/heap"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

// Rows of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 500
)

// Order is how rows are sorted: by a number or a text, and among equal ones by id, which no two rows share.
type Order struct {
	By   string
	Desc bool
}

// ParseOrder reads a sort parameter: a name of allowed, with a - before it for the descending order. An empty one is
// the first of allowed, which may have a - itself. Errors are refusals.
func ParseOrder(sort string, allowed ...string) (Order, error) {
	o := readOrder(cmp.Or(sort, allowed[0]))
	if !slices.ContainsFunc(allowed, func(a string) bool { return readOrder(a).By == o.By }) {
		return Order{}, Refuse(400,
			"sort: %.40q is not known; want one of %s, with a - before it for the descending order", sort,
			strings.ReplaceAll(strings.Join(allowed, ", "), "-", ""))
	}
	return o, nil
}

func readOrder(s string) Order {
	by, desc := strings.CutPrefix(s, "-")
	return Order{by, desc}
}

func (o Order) String() string {
	if o.Desc {
		return "-" + o.By
	}
	return o.By
}

// Key is where a row stands in an order.
type Key struct {
	Number int64  `json:"n,omitempty"`
	Text   string `json:"t,omitempty"`
	ID     string `json:"i"`
}

// Compare is negative where a stands before b.
func (o Order) Compare(a, b Key) int {
	c := cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Text, b.Text), strings.Compare(a.ID, b.ID))
	if o.Desc {
		return -c
	}
	return c
}

// cursor is a place between two rows of an order, as clients hold it.
type cursor struct {
	Sort string `json:"s"`
	Key
}

// Cursor is the place behind a row, opaque to clients.
func (o Order) Cursor(k Key) string {
	b, err := json.Marshal(cursor{o.String(), k})
	if err != nil {
		panic("ask: a cursor does not marshal: " + err.Error()) // it is a plain struct
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// After reads a cursor of this order; nil: the beginning. Errors are refusals.
func (o Order) After(s string) (*Key, error) {
	if s == "" {
		return nil, nil
	}
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	switch {
	case err != nil:
		return nil, Refuse(400, "cursor: it is none; leave it out to begin anew")
	case c.Sort != o.String():
		return nil, Refuse(400, "cursor: it is of the order %.40q; leave it out to begin anew", c.Sort)
	}
	return &c.Key, nil
}

// Limit is how many rows a page has: limit, or the default for 0. Errors are refusals.
func Limit(limit int) (int, error) {
	if limit < 0 || limit > MaxLimit {
		return 0, Refuse(400, "limit: want a number from 1 to %d", MaxLimit)
	}
	return cmp.Or(limit, DefaultLimit), nil
}

// Top keeps the first rows of an order after a place, whatever their number: its memory is that of one page.
type Top[R any] struct {
	order Order
	after *Key
	most  int
	rows  []keyed[R] // a heap: the last in the order stands first
	more  bool       // a row was left out
}

type keyed[R any] struct {
	key Key
	row R
}

// NewTop keeps at most this many rows.
func NewTop[R any](order Order, after *Key, most int) *Top[R] {
	return &Top[R]{order: order, after: after, most: most}
}

// Wants reports whether a row with this key belongs to the page, as far as it is known.
func (t *Top[R]) Wants(k Key) bool {
	if t.after != nil && t.order.Compare(k, *t.after) <= 0 {
		return false
	}
	if len(t.rows) == t.most && (t.most == 0 || t.order.Compare(k, t.rows[0].key) >= 0) {
		t.more = true
		return false
	}
	return true
}

// Add adds a row that the page wants.
func (t *Top[R]) Add(k Key, r R) {
	if len(t.rows) == t.most {
		t.rows[0] = keyed[R]{k, r}
		heap.Fix((*byLast[R])(t), 0)
		t.more = true
		return
	}
	heap.Push((*byLast[R])(t), keyed[R]{k, r})
}

// Page is the rows in their order. next is the cursor behind the last one; empty: no row is left. Rows whose id came
// twice are there once. A page is cut so that its rows have at most maxBytes as JSON, but has one row at least.
func (t *Top[R]) Page(maxBytes int) (rows []R, next string, err error) {
	slices.SortFunc(t.rows, func(a, b keyed[R]) int { return t.order.Compare(a.key, b.key) })
	t.rows = slices.CompactFunc(t.rows, func(a, b keyed[R]) bool { return a.key.ID == b.key.ID })
	rows = make([]R, 0, len(t.rows)) // not nil: [] in JSON
	for i, r := range t.rows {
		b, err := json.Marshal(r.row)
		if err != nil {
			return nil, "", err
		}
		if maxBytes -= len(b); maxBytes < 0 && i > 0 {
			t.more = true
			break
		}
		rows = append(rows, r.row)
	}
	if t.more && len(rows) > 0 {
		next = t.order.Cursor(t.rows[len(rows)-1].key)
	}
	return rows, next, nil
}

// Part is the rows of one instance, in order; More says that others follow them.
type Part[R any] struct {
	Rows []R
	More bool
}

// Merge makes one page of the parts. Where a part was cut, what other parts have behind its last row waits for the next
// page, since rows of that instance may stand before it.
func Merge[R any](order Order, limit int, key func(*R) Key, parts []Part[R]) (rows []R, next string) {
	top := NewTop[R](order, nil, limit)
	var end *Key
	for _, p := range parts {
		if n := len(p.Rows); p.More && n > 0 {
			if last := key(&p.Rows[n-1]); end == nil || order.Compare(last, *end) < 0 {
				end = &last
			}
		}
	}
	left := false
	for _, p := range parts {
		for i := range p.Rows {
			k := key(&p.Rows[i])
			if end != nil && order.Compare(k, *end) > 0 {
				left = true
			} else if top.Wants(k) {
				top.Add(k, p.Rows[i])
			}
		}
	}
	rows, next, _ = top.Page(1 << 30) // fails only for what is no JSON, and it came as JSON
	if next == "" && (left || end != nil) && len(rows) > 0 {
		next = order.Cursor(key(&rows[len(rows)-1]))
	}
	return rows, next
}

// byLast makes a Top's rows a heap.
type byLast[R any] Top[R]

func (t *byLast[R]) Len() int           { return len(t.rows) }
func (t *byLast[R]) Less(i, j int) bool { return t.order.Compare(t.rows[i].key, t.rows[j].key) > 0 }
func (t *byLast[R]) Swap(i, j int)      { t.rows[i], t.rows[j] = t.rows[j], t.rows[i] }
func (t *byLast[R]) Push(x any)         { t.rows = append(t.rows, x.(keyed[R])) }
func (t *byLast[R]) Pop() any {
	last := t.rows[len(t.rows)-1]
	t.rows = t.rows[:len(t.rows)-1]
	return last
}
