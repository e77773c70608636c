package proto

import (
	"strings"
	"testing"
)

// BenchmarkParsePublication reads what most POSTs send, once with the reader of ordinary JSON before the full one, as
// ParsePublication does, and once with the full one alone. Its difference is what scan.go saves of a message.
//
//	go test -run '^$' -bench ParsePublication
func BenchmarkParsePublication(b *testing.B) {
	body := []byte(`{"channel":"orders.eu","data":{"n":1,"text":"` + strings.Repeat("x", 111) + `"}}`)
	full := func(body []byte) (Publication, error) {
		p, err := decodePublication(body)
		if err == nil {
			err = p.checkMembers()
		}
		return p, err
	}
	for name, read := range map[string]func([]byte) (Publication, error){
		"both": func(body []byte) (Publication, error) { return ParsePublication(body, 64<<10) },
		"full": full,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := read(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
