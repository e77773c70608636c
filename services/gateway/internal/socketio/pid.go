package socketio

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"
)

// Signer makes and checks what clients show to recover their state. All gateways of
// a deployment have the same key.
type Signer struct{ key []byte }

// NewSigner returns a Signer with a secret of 32 bytes.
func NewSigner(key []byte) *Signer { return &Signer{slices.Clone(key)} }

// PIDAge is for how long a pid can be shown. What was missed is usually gone from the
// stream sooner.
const PIDAge = 7 * 24 * time.Hour

// A pid in bytes, in base64 for URLs: when it ends (Unix seconds), a random number, so
// that no two are the same, and a signature of both and of the session.
const (
	pidHead = 8 + 8
	pidSize = pidHead + sha256.Size
)

// Session is what a pid stands for: what is followed, and for whom. It is signed, and
// not in the pid.
type Session struct {
	Channels []string // in any order
	Subject  string   // empty: anonymous
}

// Sign returns a new pid for a session.
func (s *Signer) Sign(session Session, now time.Time) string {
	b := make([]byte, pidHead, pidSize)
	binary.BigEndian.PutUint64(b, uint64(now.Add(PIDAge).Unix()))
	_, _ = rand.Read(b[8:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(s.sign(b, session))
}

// Valid reports whether a pid was signed for this session, and has not ended.
func (s *Signer) Valid(pid string, session Session, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(pid)
	if err != nil || len(b) != pidSize {
		return false
	}
	return hmac.Equal(s.sign(b[:pidHead:pidHead], session), b) && uint64(now.Unix()) < binary.BigEndian.Uint64(b)
}

// sign appends the signature to head.
func (s *Signer) sign(head []byte, session Session) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(head)
	channels := slices.Clone(session.Channels)
	slices.Sort(channels)
	for _, text := range append([]string{session.Subject}, slices.Compact(channels)...) {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(text)))
		mac.Write(size[:])
		mac.Write([]byte(text))
	}
	return mac.Sum(head)
}
