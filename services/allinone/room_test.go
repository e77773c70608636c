package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The doctor does the sum that Herald does at its start: what is free and what
// the stream has already against what it may grow to.
func TestDoctorDoesTheSum(t *testing.T) {
	data := t.TempDir()
	files := filepath.Join(data, "nats", "jetstream", "$G", "streams", "HERALD", "msgs")
	if err := os.MkdirAll(files, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "1.blk"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const vast = 1 << 60
	for name, c := range map[string]struct {
		data    string
		limit   int64
		nats    string
		want    string
		nothing bool
	}{
		"room for all":            {data, 4 << 20, "", "ok    the disk of", false},
		"less than it may grow":   {data, vast, "", "warn  the disk of", false},
		"a folder yet to be made": {filepath.Join(data, "to", "be", "made"), vast, "", "warn  the disk of", false},
		"NATS elsewhere":          {data, vast, "nats://example.com", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			p := &patient{cfg: defaultConfig(), out: &out, ctx: t.Context()}
			p.cfg.Data, p.cfg.Ingest.StreamMaxBytes, p.cfg.NATS.URL = c.data, c.limit, c.nats
			p.room()
			if c.nothing {
				if out.Len() > 0 {
					t.Errorf("got %s, want nothing: the stream is on another disk", &out)
				}
				return
			}
			if !strings.HasPrefix(out.String(), c.want) || !strings.Contains(out.String(), mebibytes(uint64(c.limit))) {
				t.Errorf("got %s, want %s … and the limit", &out, c.want)
			}
			if c.data == data && !strings.Contains(out.String(), "the stream takes 3 MiB") {
				t.Errorf("got %s, want what the stream takes", &out)
			}
			if p.ill > 0 {
				t.Error("it counts as wrong, though Herald runs")
			}
		})
	}
}
