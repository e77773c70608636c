package ask

import (
	"encoding/json"
	"net/netip"
	"sync"
	"time"
)

// refusalsKept is how many refusals an instance keeps.
const refusalsKept = 500

// maxDetail bounds each text of a refusal that is kept, some of which strangers write.
const maxDetail = 300

// RefusalRing keeps the newest refusals of an instance. The zero value is empty. Safe for concurrent use.
type RefusalRing struct {
	mu   sync.Mutex
	rows []Refusal // guarded by mu; a ring once it is full
	n    uint64    // guarded by mu; refusals ever added
}

// Add keeps a refusal. Its time is now.
func (r *RefusalRing) Add(f Refusal) {
	f.Time = time.Now().UTC().Truncate(time.Millisecond)
	for _, text := range []*string{&f.Path, &f.Detail, &f.Origin} {
		*text = cut(*text, maxDetail)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) < refusalsKept {
		r.rows = append(r.rows, f)
	} else {
		r.rows[r.n%refusalsKept] = f
	}
	r.n++
}

// cut is a copy of the beginning of a text: the rest of a request's memory is not kept.
func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return string([]byte(s))
}

// Count is how many refusals there were.
func (r *RefusalRing) Count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// Find returns those that are kept and asked for, the newest first. Errors are refusals.
func (r *RefusalRing) Find(q RefusalsQuestion) (RefusalsAnswer, error) {
	out := RefusalsAnswer{Rows: []Refusal{}}
	prefix, err := ParseAddress(q.Address)
	if err != nil {
		return out, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	room := MaxAnswer - 1<<10
	for i := range len(r.rows) {
		f := r.rows[(r.n-1-uint64(i))%uint64(len(r.rows))]
		if q.Reason != "" && f.Reason != q.Reason {
			continue
		}
		if prefix.IsValid() {
			if addr, err := netip.ParseAddr(f.Address); err != nil || !prefix.Contains(addr) {
				continue
			}
		}
		b, err := json.Marshal(f)
		if err != nil {
			return out, err
		}
		if room -= len(b) + 1; room < 0 {
			break // the oldest do not fit
		}
		out.Rows = append(out.Rows, f)
	}
	return out, nil
}

// ByAddress counts the refusals that are kept by a prefix of their address.
func (r *RefusalRing) ByAddress(of func(netip.Addr) netip.Prefix) map[netip.Prefix]int {
	out := map[netip.Prefix]int{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rows {
		if addr, err := netip.ParseAddr(r.rows[i].Address); err == nil {
			out[of(addr)]++
		}
	}
	return out
}

// ParseAddress reads an address or a prefix that a question names. An empty one is the zero prefix, which is not valid.
// Errors are refusals.
func ParseAddress(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, Refuse(400, "address: %.60q is neither an address nor a prefix such as 203.0.113.0/24",
			s)
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}
