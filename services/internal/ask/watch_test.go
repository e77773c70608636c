package ask_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-push/herald/services/internal/ask"
)

// It is on from the first question until a minute after the last one.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var switched []bool // guarded by mu
		w := ask.Watch{Switch: func(on bool) {
			mu.Lock()
			defer mu.Unlock()
			switched = append(switched, on)
		}}
		want := func(what string, on ...bool) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(switched) != fmt.Sprint(on) {
				t.Errorf("%s: got %v, want %v", what, switched, on)
			}
		}
		w.Off()
		want("off, and it was")
		since := w.On()
		for range 3 { // each a moment before it would end, so that a timer that has begun meets a question
			time.Sleep(time.Minute - time.Nanosecond)
			if got := w.On(); !got.Equal(since) {
				t.Errorf("on since %s, want %s", got, since)
			}
		}
		time.Sleep(59 * time.Second)
		want("within the minute", true)
		time.Sleep(2 * time.Second)
		want("a minute after the last question", true, false)
		if got := w.On(); got.Equal(since) {
			t.Error("on again, and since the first time")
		}
		w.Off()
		w.On()
		time.Sleep(59 * time.Second) // a timer of before Off would end it
		want("off and on", true, false, true, false, true)
		w.Off()
	})
}
