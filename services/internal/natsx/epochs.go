package natsx

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Epochs says of which epoch the ids of a stream are.
//
// A NATS server that comes back after a power cut, or from an older copy of
// its folder, may end before messages that it had acknowledged, and then gives
// their sequences to others. So that no id ever names two messages, a new epoch
// begins whenever that may have happened: at each start of a single server, and
// in a cluster when somebody has seen it. The list of epochs stands in the
// stream's own metadata. An id of an earlier epoch is good up to where the next
// one begins, so that an ordinary restart costs no client anything; above that
// it names a message that is lost.
//
// The name of an epoch is the time at which it began, and the first one's is the
// stream's creation. A list that was copied to a younger stream is therefore
// known to be none of its own.
//
// Epochs is a value: nobody changes it.
type Epochs struct {
	list []epoch // in the order of from; never empty, except in the zero value
	// server is the id of the nats-server process under which the newest began;
	// empty in a cluster.
	server string
}

type epoch struct {
	name string // proto.EpochOf
	from uint64 // its first stream sequence
}

// Keys of the stream's metadata. A stream that has only the first was
// made by this version of Herald, or a later one.
const (
	metaServer = "herald-server"
	metaEpochs = "herald-epochs" // such as "mib3k2x9:1,mib9xxxx:8101"
)

// maxEpochs is how many are kept: an id that is older than so many restarts is
// reported as a gap.
const maxEpochs = 48

// EpochsOf reads the epochs from an answer about the stream.
func EpochsOf(info *jetstream.StreamInfo) Epochs {
	created := proto.EpochOf(info.Created)
	e := Epochs{list: []epoch{{created, 1}}, server: info.Config.Metadata[metaServer]}
	var list []epoch
	for item := range strings.SplitSeq(info.Config.Metadata[metaEpochs], ",") {
		name, digits, _ := strings.Cut(item, ":")
		from, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || older(name, created) || len(list) > 0 &&
			(from < list[len(list)-1].from || !older(list[len(list)-1].name, name)) {
			return e
		}
		list = append(list, epoch{name, from})
	}
	e.list = list
	return e
}

// EpochBegan is when the epoch of this name began.
func EpochBegan(name string) time.Time {
	ms, _ := strconv.ParseInt(name, 36, 64) // of what is no name: long ago
	return time.UnixMilli(ms)
}

// older compares the names of epochs, which are numbers in base 36.
func older(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// Epoch is a part of the stream.
type Epoch struct {
	Name          string
	From, Through uint64 // its first and its last stream sequence; the newest has no end
}

// All lists the epochs, oldest first.
func (e Epochs) All() []Epoch {
	all := make([]Epoch, len(e.list))
	for i, o := range e.list {
		all[i] = Epoch{o.name, o.from, math.MaxUint64}
		if i > 0 {
			all[i-1].Through = o.from - 1
		}
	}
	return all
}

// Names lists their names.
func (e Epochs) Names() []string {
	names := make([]string, len(e.list))
	for i, o := range e.list {
		names[i] = o.name
	}
	return names
}

// Newest is the epoch of the ids that are given out now.
func (e Epochs) Newest() string { return e.list[len(e.list)-1].name }

// Begins is the first stream sequence of the newest epoch.
func (e Epochs) Begins() uint64 { return e.list[len(e.list)-1].from }

// At is the epoch of the id of what is stored at a stream sequence.
func (e Epochs) At(seq uint64) string {
	i := len(e.list) - 1
	for i > 0 && e.list[i].from > seq {
		i--
	}
	return e.list[i].name
}

// Known reports whether the stream has, or had, the place that an id of this
// epoch with this stream sequence names, and no other message has it. For
// the newest epoch that is true of any sequence: whether the stream has got as
// far is not looked at.
func (e Epochs) Known(name string, seq uint64) bool {
	i := slices.IndexFunc(e.list, func(o epoch) bool { return o.name == name })
	return i >= 0 && (i == len(e.list)-1 || seq < e.list[i+1].from)
}

// Lost reports whether an id of this epoch with this stream sequence names what the stream
// has lost: from the end of an epoch, or with an epoch that began later than the first one.
// What its holder has not seen begins with the epoch after that then, at begins.
func (e Epochs) Lost(name string, seq uint64) (begins uint64, lost bool) {
	i := slices.IndexFunc(e.list, func(o epoch) bool { return older(name, o.name) })
	if i <= 0 || e.Known(name, seq) { // of before this stream, or of none yet
		return 0, false
	}
	return e.list[i].from, true
}

// Same reports whether a stream with these epochs has the same message at
// seq as one with those had: false means that it was lost in between.
func (e Epochs) Same(other Epochs, seq uint64) bool { return e.At(seq) == other.At(seq) }

// Equal reports whether two lists are the same.
func (e Epochs) Equal(other Epochs) bool { return slices.Equal(e.list, other.list) }

// Covers reports whether the epochs are those of a stream that the
// connected server has, as far as the connection tells: a single server that was
// started since begins another epoch, which ingest declares.
func (e Epochs) Covers(nc *nats.Conn) bool {
	process, clustered := Process(nc)
	return clustered || process != "" && (e.server == "" || e.server == process)
}

// Process is the id of the nats-server process that the connection is to, and whether that is one of a cluster. The id
// is empty while nc is not connected, when nobody knows whether there is a cluster.
func Process(nc *nats.Conn) (id string, clustered bool) {
	id, clustered = nc.ConnectedServerId(), nc.ConnectedClusterName() != ""
	if id == "" || id != nc.ConnectedServerId() { // lost between the two questions
		return "", false
	}
	return id, clustered
}

// next is the list after another epoch has begun behind last.
func (e Epochs) next(last uint64) Epochs {
	name := proto.EpochOf(time.Now())
	if newest := e.Newest(); !older(newest, name) { // the clock went backwards, or this is the same millisecond
		name = proto.EpochOf(EpochBegan(newest).Add(time.Millisecond))
	}
	list := append(slices.Clone(e.list), epoch{name, last + 1})
	return Epochs{list: list[max(0, len(list)-maxEpochs):], server: e.server}
}

// metadata is what stands in the stream's configuration, beside what an
// operator has put there.
func (e Epochs) metadata(has map[string]string) map[string]string {
	want := map[string]string{}
	for key, value := range has {
		if !strings.HasPrefix(key, "_nats.") { // the server adds its own again
			want[key] = value
		}
	}
	items := make([]string, len(e.list))
	for i, o := range e.list {
		items[i] = o.name + ":" + strconv.FormatUint(o.from, 10)
	}
	want[metaServer], want[metaEpochs] = e.server, strings.Join(items, ",")
	return want
}

// renew is what the epochs are to become, and whether that is anything else:
// a new one begins if the server may have lost the stream's newest messages, or
// if the newest one is known to have lost some.
// server is the id of the only nats-server; empty: there is a cluster.
func (e Epochs) renew(info *jetstream.StreamInfo, server, lost string) (_ Epochs, changed bool) {
	now := e
	switch {
	case !slices.Contains(info.Config.Subjects, proto.SubjectPacks) && info.State.LastSeq > 0:
		// Of before there were packs: numbers in ids meant something else.
		now = e.next(0)
		now.list = now.list[len(now.list)-1:]
	case e.Newest() == lost || server != "" && e.server != server:
		now = e.next(info.State.LastSeq)
	}
	now.server = server
	return now, now.server != e.server || !now.Equal(e)
}
