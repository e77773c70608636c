package engineio

import "time"

// repeats recognises requests that are sent again: a proxy or an HTTP library repeats a
// GET by itself when the connection breaks over which the answer should have come. The
// answer is kept until the client asks for the next one, which it does once it has this
// one. A repeated POST is answered, and does nothing.
type repeats struct {
	first    string      // fixed; Query.Turn of the handshake: a client that says it again says it always
	get      string      // Query.Turn of the newest GET
	response *Response   // to that; nil: it is still open, or has no turn
	post     string      // Query.Turn of the newest POST that was handled
	timer    *time.Timer // breaks off the session whose client has hung up; nil: none
}

// repeatWait is how long a session waits for a GET to be repeated whose client has hung
// up. Who repeats does so at once.
const repeatWait = 2 * time.Second

// begin is called when a GET opens.
func (r *repeats) begin(turn string) {
	r.end()
	r.get = turn
}

// answered is called with the response to the newest GET.
func (r *repeats) answered(response Response) {
	if r.get != "" {
		r.response = &response
	}
}

// end forgets the response, and has the session not broken off any more.
func (r *repeats) end() {
	r.response = nil
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

// hungUp reports whether a GET may be repeated whose client has hung up. If so, the session
// waits for that, and is broken off after repeatWait.
func (s *poll) hungUp(get *exchange) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.repeats.get == "" || s.ended || s.closed:
		return false
	case s.get == get:
		s.get = nil
	case s.get != nil:
		return true // it was repeated meanwhile
	}
	if s.repeats.timer == nil {
		s.repeats.timer = time.AfterFunc(repeatWait, s.notRepeated) // stopped by repeats.end
	}
	return true
}

func (s *poll) notRepeated() {
	s.mu.Lock()
	waits := s.repeats.timer != nil && s.get == nil
	s.mu.Unlock()
	if waits {
		s.breakOff()
	}
}
