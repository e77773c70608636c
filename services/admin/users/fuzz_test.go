package users

import (
	"encoding/json"
	"testing"
)

// Whatever stands in the bucket, a digest that is read costs no more than ours, and
// an entry that is read is that of its key.
func FuzzEntry(f *testing.F) {
	f.Add("user.YWRtaW4",
		`{"name":"admin","role":"admin","via":"password","epoch":"x","digest":"$argon2id$v=19$m=19456,t=2,`+
			`p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
	f.Add("user.YW5uYQ", `{"name":"anna","role":"viewer","via":"oidc","subject":"https://id 1","epoch":"x"}`)
	f.Add("", "{")
	f.Fuzz(func(t *testing.T, key, value string) {
		u, err := parse(key, []byte(value))
		if err != nil {
			return
		}
		if keyOf("user", u.Name) != key || CheckName(u.Name) != nil || !u.Role.Includes(Viewer) {
			t.Errorf("%s: got %+v", key, u)
		}
		if d, err := parseDigest(u.Digest); err == nil && (d.memory > 4*hashMemory || d.time > 10 || d.threads != 1 ||
			len(d.key) > 64 || len(d.salt) > 64) {
			t.Errorf("got %+v of %s", d, u.Digest)
		}
		if _, err := json.Marshal(u); err != nil {
			t.Error(err)
		}
	})
}
