package proto_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

func TestParseCursor(t *testing.T) {
	for _, c := range []struct {
		name, id string
		want     proto.Cursor // zero: refused
	}{
		{"usual", "mib3k2x9-1024", proto.Cursor{Epoch: "mib3k2x9", Seq: 1024}},
		{"before the first message", "mib3k2x9-0", proto.Cursor{Epoch: "mib3k2x9"}},
		{"largest", "z-18446744073709551615", proto.Cursor{Epoch: "z", Seq: math.MaxUint64}},
		{"too large", "z-18446744073709551616", proto.Cursor{}},
		{"empty", "", proto.Cursor{}},
		{"no dash", "mib3k2x9", proto.Cursor{}},
		{"no epoch", "-1", proto.Cursor{}},
		{"no sequence", "mib3k2x9-", proto.Cursor{}},
		{"leading zero", "mib3k2x9-01", proto.Cursor{}},
		{"sign", "mib3k2x9-+1", proto.Cursor{}},
		{"two dashes", "mib-3-1", proto.Cursor{}},
		{"capitals", "MIB3K2X9-1", proto.Cursor{}},
		{"a word for since", proto.SinceAll, proto.Cursor{}},
		{"65 bytes", strings.Repeat("a", 63) + "-1", proto.Cursor{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := proto.ParseCursor(c.id)
			if got != c.want || (err == nil) != (c.want != proto.Cursor{}) {
				t.Fatalf("ParseCursor(%q): got %+v, %v; want %+v", c.id, got, err, c.want)
			}
			if err != nil && !errors.Is(err, proto.ErrCursor) {
				t.Errorf("%v is not ErrCursor", err)
			}
		})
	}
}

func TestEpochOf(t *testing.T) {
	created := time.Date(2026, 11, 22, 16, 58, 36, 123456789, time.FixedZone("", 3600))
	if got, want := proto.EpochOf(created), proto.EpochOf(created.UTC().Truncate(time.Millisecond)); got != want ||
		len(got) != 8 {
		t.Errorf("got %q, want %q of 8 bytes, whatever the zone and below a millisecond", got, want)
	}
	if later := proto.EpochOf(created.Add(time.Millisecond)); later == proto.EpochOf(created) {
		t.Errorf("a millisecond later the epoch is still %q", later)
	}
}

func FuzzCursor(f *testing.F) {
	for _, s := range []string{"mib3k2x9-1024", "a-0", "-", "a-01", "a-18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := proto.ParseCursor(s)
		if err != nil {
			return
		}
		if c.String() != s || len(s) > 64 || strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Fatalf("ParseCursor(%q) gave %+v, which is written %q", s, c, c)
		}
	})
}
