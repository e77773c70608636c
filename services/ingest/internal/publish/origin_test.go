package publish

import (
	"fmt"
	"strings"
	"testing"
)

// Message ids are ASCII and different for different senders, channels and
// keys, whatever characters these have.
func TestMessageIDs(t *testing.T) {
	seen := map[string]string{}
	for _, sender := range []string{"shop", "shop/a", "Büro 1", "B%C3%BCro%201", "a b"} {
		for _, channel := range []string{"a", "a/b", "a%2Fb", "b"} {
			for _, key := range []string{"k", "a/k", "b/k", "k/0"} {
				for _, place := range []int{Whole, 0, 1} {
					o := &Origin{Sender: sender, Key: key}
					id := o.msgID("", channel, place)
					what := fmt.Sprintf("%q %q %q %d", sender, channel, key, place)
					if other := seen[id]; other != "" {
						t.Errorf("%s and %s have the same id %q", what, other, id)
					}
					seen[id] = what
					if strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) {
						t.Errorf("%s: id %q is not printable ASCII", what, id)
					}
				}
			}
		}
	}
}
