package ingest
import ("testing";"time";"github.com/herald-push/herald/services/internal/keystore")
func TestTmpBucketGone(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	old := addKey(t, "old", keystore.Options{Channels: []string{">"}}, r)
	if err := r.js.DeleteKeyValue(t.Context(), keystore.Bucket); err != nil { t.Fatal(err) }
	secret, _, err := r.keys().Add(t.Context(), "new", keystore.Options{Channels: []string{">"}}, time.Now())
	t.Log(err)
	for i := range 40 {
		_, e1 := r.ring.Authenticate(old, time.Now())
		_, e2 := r.ring.Authenticate(secret, time.Now())
		t.Log(i, e1, e2)
		time.Sleep(500*time.Millisecond)
		if e2 == nil {break}
	}
}
