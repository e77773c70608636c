package proto

import "testing"

func TestMarshal(t *testing.T) {
	b, err := Marshal(Subscribed{Type: FrameSubscribed, Channel: "public.>&<"})
	if want := `{"type":"subscribed","channel":"public.>&<","resumed":false,"id":""}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
	if b, err := Marshal(func() {}); err == nil {
		t.Errorf("a function: got %s", b)
	}
}
