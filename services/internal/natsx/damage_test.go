package natsx_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
)

// One byte that a disk flips takes a message, and NATS passes over it without a
// word. Who reads is told.
func TestReaderOfADamagedStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	store(t, js, "a", "a", "b", "a", "a")
	s.Stop()
	s.Damage(func(path string, b []byte) bool {
		i := bytes.Index(b, []byte(`{"channel":"b"`))
		if filepath.Ext(path) != ".blk" || i < 0 {
			return false
		}
		b[i+20] ^= 1
		return true
	})
	s.Restart()
	natstest.Eventually(t, 30*time.Second, "connected again", nc.IsConnected)
	r := natsx.NewReader(nc, nil)
	var got []uint64
	var damaged uint64
	natstest.Eventually(t, 30*time.Second, "the stream is there",
		func() bool { _, err := r.State(t.Context()); return err == nil })
	for since := uint64(0); since < proto.EndOf(5); {
		page, err := r.Read(t.Context(), natsx.Range{Names: []string{"a"}, Since: since, UpTo: proto.EndOf(5),
			Messages: 10})
		if err != nil {
			t.Fatal(err)
		}
		got, since = append(got, seqs(page.Messages)...), page.End
		if page.Why == natsx.Damaged {
			damaged = page.Missing
		}
	}
	if !slices.Equal(got, []uint64{1, 2, 4, 5}) || damaged != proto.EndOf(3) {
		t.Errorf("got %v, damaged up to %d", got, damaged)
	}
}
