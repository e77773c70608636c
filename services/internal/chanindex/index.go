// Package chanindex knows in which packs of the stream messages of a channel may
// be, so that a channel's past is read without reading everybody's.
//
// Each pack names its channels by hashes in a header (proto.HeaderChannels).
// Some packs that follow each other are a block, and 256 blocks a segment, which
// holds 21 bits of each hash and the number of its block, sorted by hash: 2.5
// bytes. An answer is never short; about one block in fifty segments is named
// without need. The packs of a block have 160 messages together, or are one pack.
package chanindex

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
)

const (
	// blockEntries is how many hashes a block has before the next begins: so much
	// is read for one message, 37 KB at 230 bytes each. blockPacks bounds blocks of
	// packs that hold nothing.
	blockEntries = 160
	blockPacks   = 4096
	// segmentBlocks and segmentEntries bound a segment: block numbers have 8 bits.
	segmentBlocks  = 256
	segmentEntries = 32 << 10
	// maxSegments bounds the memory to 16 MB; beyond it the oldest are forgotten,
	// and what they were about is read.
	maxSegments = 192
	// awaitBuild is how long a reader waits for an index that is being built, unless shortRead
	// packs or fewer are asked for: they are rather read.
	awaitBuild = 5 * time.Second
	shortRead  = 1024
	// awaitNew is how long a reader waits for what is newer than the index, unless these are
	// newPacks or fewer. It asks for them again after askAgain: NATS tells consumers a moment after publishers.
	awaitNew = time.Second
	newPacks = 4
	askAgain = 5 * time.Millisecond
)

// Index is a natsx.Index. Run keeps it up to date. Safe for concurrent use.
type Index struct {
	every    time.Duration // fetchEvery
	mu       sync.RWMutex
	segments []*segment    // guarded by mu; ascending, each sealed
	open     open          // guarded by mu; behind them
	first    uint64        // guarded by mu; packs before it are not known
	next     uint64        // guarded by mu; nor are this one and those after it; 0: none is known
	damaged  uint64        // guarded by mu; packs found to be missing from the middle
	grown    chan struct{} // guarded by mu; closed and replaced when packs have become known
	complete chan struct{} // never replaced; closed once everything is known that was stored when Run began
	ask      chan struct{} // holds one token when somebody waits for new packs; never closed
}

// New makes an index that knows nothing.
func New() *Index {
	return &Index{every: fetchEvery, complete: make(chan struct{}), grown: make(chan struct{}),
		ask: make(chan struct{}, 1)}
}

// segment is 256 blocks. It is never changed.
type segment struct {
	begins  []uint64 // the first pack of each block, and that after the last one
	buckets [1<<bucketBits + 1]uint16
	entries []uint16 // of each bucket, sorted: 8 bits of the hash, 8 bits block
	any     []uint8  // blocks that may hold anything
}

const bucketBits = 13

// open is the segment that is being filled.
type open struct {
	begins  []uint64
	entries []uint32 // hash<<8 | block
	any     []uint8
	block   int // where the entries of the newest block begin
}

// add notes what a pack holds, whose stream sequence is next. Without hashes it
// may hold anything if unknown is true, and holds nothing otherwise.
func (x *Index) add(seq uint64, hashes []uint32, unknown bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.next == 0 {
		x.first = seq
	}
	o := &x.open
	switch n := len(o.begins); {
	case n == 0:
		o.begins = append(o.begins, seq)
	case unknown || o.unknown() || len(o.entries)-o.block+len(hashes) > blockEntries || seq-o.begins[n-1] >= blockPacks:
		o.close()
		if n == segmentBlocks || len(o.entries)+len(hashes) > segmentEntries {
			x.segments = append(x.segments, o.seal(seq))
			if len(x.segments) > maxSegments {
				x.segments[0] = nil
				x.segments = x.segments[1:]
				x.first = x.segments[0].begins[0]
			}
		}
		o.begins = append(o.begins, seq)
	}
	block := uint32(len(o.begins) - 1)
	if unknown {
		o.any = append(o.any, uint8(block))
	}
	for _, h := range hashes {
		o.entries = append(o.entries, h<<8|block)
	}
	x.next = seq + 1
}

// unknown reports whether the newest block may hold anything.
func (o *open) unknown() bool {
	return len(o.any) > 0 && int(o.any[len(o.any)-1]) == len(o.begins)-1
}

// close ends the newest block: several packs may have the same channel.
func (o *open) close() {
	slices.Sort(o.entries[o.block:])
	o.entries = o.entries[:o.block+len(slices.Compact(o.entries[o.block:]))]
	o.block = len(o.entries)
}

// seal makes a segment, and begins another one at next.
func (o *open) seal(next uint64) *segment {
	s := &segment{begins: append(slices.Clone(o.begins), next), entries: make([]uint16, len(o.entries)),
		any: slices.Clone(o.any)}
	slices.Sort(o.entries) // by hash, then by block
	for i, e := range o.entries {
		s.entries[i] = payload(e>>8)<<8 | uint16(e&0xff)
		s.buckets[bucket(e>>8)+1] = uint16(i + 1)
	}
	for b := 1; b < len(s.buckets); b++ {
		s.buckets[b] = max(s.buckets[b], s.buckets[b-1])
	}
	o.begins, o.entries, o.any, o.block = o.begins[:0], o.entries[:0], o.any[:0], 0
	return s
}

func bucket(hash uint32) uint32  { return hash >> (24 - bucketBits) }
func payload(hash uint32) uint16 { return uint16(hash>>(24-bucketBits-8)) & 0xff }

// blocks marks those that may hold something with this hash.
func (s *segment) blocks(hash uint32, marked *[segmentBlocks]bool) {
	want := payload(hash)
	b := bucket(hash)
	for _, e := range s.entries[s.buckets[b]:s.buckets[b+1]] {
		if e>>8 == want {
			marked[e&0xff] = true
		}
	}
}

func (o *open) blocks(hash uint32, marked *[segmentBlocks]bool) {
	for _, e := range o.entries {
		if e>>8 == hash {
			marked[e&0xff] = true
		}
	}
}

// Ranges is natsx.Index's.
func (x *Index) Ranges(names []string, from, upTo uint64) []natsx.PackRange {
	hashes := make([]uint32, 0, len(names))
	for _, name := range names {
		h, ok := proto.PatternHash(name)
		if !ok {
			return []natsx.PackRange{{From: from, Through: upTo}}
		}
		hashes = append(hashes, h)
	}
	r := ranges{from: from, upTo: upTo}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.next == 0 {
		return []natsx.PackRange{{From: from, Through: upTo}}
	}
	r.add(from, x.first-1)
	i := sort.Search(len(x.segments),
		func(i int) bool { return x.segments[i].begins[len(x.segments[i].begins)-1] > from })
	for ; i < len(x.segments) && x.segments[i].begins[0] <= upTo; i++ {
		s := x.segments[i]
		r.marked(s.begins, s.any, hashes, s.blocks)
	}
	r.marked(append(slices.Clone(x.open.begins), x.next), x.open.any, hashes, x.open.blocks)
	r.add(x.next, upTo)
	return r.list
}

// ranges is what Ranges has found.
type ranges struct {
	from, upTo uint64
	list       []natsx.PackRange
}

func (r *ranges) marked(begins []uint64, unknown []uint8, hashes []uint32, blocks func(uint32, *[segmentBlocks]bool)) {
	var marked [segmentBlocks]bool
	for _, b := range unknown {
		marked[b] = true
	}
	for _, h := range hashes {
		blocks(h, &marked)
	}
	for b := range len(begins) - 1 {
		if marked[b] {
			r.add(begins[b], begins[b+1]-1)
		}
	}
}

// add adds packs as far as they were asked for, joined to those before.
func (r *ranges) add(from, through uint64) {
	from, through = max(from, r.from), min(through, r.upTo)
	if from > through {
		return
	}
	if n := len(r.list); n > 0 && r.list[n-1].Through+1 == from {
		r.list[n-1].Through = through
		return
	}
	r.list = append(r.list, natsx.PackRange{From: from, Through: through})
}

// Await is natsx.Index's.
func (x *Index) Await(ctx context.Context, from, upTo uint64) {
	wait := awaitNew
	if !x.isComplete() {
		if upTo-from <= shortRead {
			return
		}
		wait = awaitBuild
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		x.mu.RLock()
		next, grown := x.next, x.grown
		x.mu.RUnlock()
		if x.isComplete() && upTo < next+newPacks {
			return
		}
		select {
		case x.ask <- struct{}{}:
		default: // it was asked already
		}
		select {
		case <-ctx.Done():
			return
		case <-grown:
		case <-again.C:
		}
	}
}

func (x *Index) isComplete() bool {
	select {
	case <-x.complete:
		return true
	default:
		return false
	}
}

// moved wakes the readers that wait until the index knows more packs.
func (x *Index) moved() {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.grown)
	x.grown = make(chan struct{})
}

// reset forgets everything: the stream is another one.
func (x *Index) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.segments, x.open, x.first, x.next = nil, open{}, 0, 0
}

// built notes that the index knows every pack that was stored before the build began; readers need not wait for it any
// more.
func (x *Index) built() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.isComplete() {
		close(x.complete)
	}
}

// Damaged is how many packs are missing from the middle of the stream.
func (x *Index) Damaged() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.damaged
}

// Complete waits until everything is known that was stored when Run began; false
// means that ctx ended before.
func (x *Index) Complete(ctx context.Context) bool {
	select {
	case <-x.complete:
		return true
	case <-ctx.Done():
		return false
	}
}

// Bytes is how much memory the segments take.
func (x *Index) Bytes() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := 4 * cap(x.open.entries)
	for _, s := range x.segments {
		n += 2*cap(s.entries) + 2*len(s.buckets) + 8*cap(s.begins) + cap(s.any)
	}
	return n
}
