package proto_test

import (
	"bytes"
	"testing"

	"github.com/herald-push/herald/proto"
)

func TestBinary(t *testing.T) {
	for _, b := range [][]byte{{}, {0}, {1, 2, 3, 4}, []byte("hello"), bytes.Repeat([]byte{0xff, 0xfb}, 1000)} {
		got, ok := proto.Binary(proto.QuoteBinary(b))
		if !ok || !bytes.Equal(got, b) {
			t.Errorf("% .20x became % .20x, %t", b, got, ok)
		}
	}
	if got := string(proto.QuoteBinary([]byte{1, 2, 3, 4})); got != `"data:application/octet-stream;base64,AQIDBA=="` {
		t.Errorf("got %s", got)
	}
	if got, ok := proto.Binary([]byte(`"data:application/octet-stream;base64,\/\/8="`)); !ok ||
		!bytes.Equal(got, []byte{0xff, 0xff}) {
		t.Errorf("with escapes: got % x, %t", got, ok)
	}
	for _, data := range []string{
		``, `""`, `{"data":"x"}`, `"hello"`, `"data:image/png;base64,AQ=="`, `"data:application/octet-stream,x"`,
		`"data:application/octet-stream;base64,AQ"`, `"data:application/octet-stream;base64,A-_="`,
		`"data:application/octet-stream;base64,AR=="`,
		`"data:application/octet-stream;base64,AQ=="x`, `"data:application/octet-stream;base64,AQ==`,
	} {
		if got, ok := proto.Binary([]byte(data)); ok {
			t.Errorf("%s was taken for % x", data, got)
		}
	}
}
