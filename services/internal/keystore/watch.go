package keystore

import (
	"context"
	"log/slog"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/bucket"
)

// Watch keeps ring equal to the bucket until ctx ends. ready is called once,
// when the ring holds what was stored at the start. Watching goes on by
// itself over NATS outages; the keys known so far stay valid meanwhile. Keys
// that Watch did not put into the ring are not its business.
func (s *Store) Watch(ctx context.Context, ring *auth.Ring, log *slog.Logger, ready func()) error {
	f := bucket.Follower{
		Prefix: "key.", What: "API key", Log: log, Ready: ready, Make: s.remake,
		Put: func(id string, value []byte) (name string, err error) {
			k, err := parse(id, value)
			if err == nil {
				err = ring.Put(k)
			}
			return k.Name, err
		},
		Remove: ring.Delete,
	}
	return f.Follow(ctx, s.nc, s.kv)
}
