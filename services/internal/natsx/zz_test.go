package natsx_test

import (
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

func TestZZ(t *testing.T) {
	s := natstest.Start(t)
	js, _ := jetstream.New(s.Connect())
	cfg := natsx.StreamConfig{MaxAge: time.Hour}
	fails, worst := 0, time.Duration(0)
	natsx.EnsureStream(t.Context(), js, cfg)
	for range 3000 {
		if err := js.DeleteStream(t.Context(), proto.Stream); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err := natsx.EnsureStream(t.Context(), js, cfg)
		if err != nil {
			fails++
			t.Log("RES", err)
			for err != nil {
				if time.Since(begin) > 5*time.Second {
					t.Fatal("RES permanent")
				}
				_, err = natsx.EnsureStream(t.Context(), js, cfg)
			}
			worst = max(worst, time.Since(begin))
		}
	}
	t.Log("RES", fails, "of 3000 failed, longest until it worked", worst)
}
