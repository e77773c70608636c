package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

const (
	// largeBody is from where on a body needs a place of its own among
	// largeBodies; smaller ones are too small to fill the memory.
	largeBody = 256 << 10
	// largeBodies and largeBodiesOfKey are how many large bodies are in memory
	// at once, each with its answer twice max-request-bytes or a little more.
	// Further ones wait for placeTimeout.
	largeBodies      = 4
	largeBodiesOfKey = 3
	placeTimeout     = 10 * time.Second
)

// scanner finds the elements of a JSON array in bytes that may still be
// arriving. It knows brackets and strings. Whether an element is JSON is
// checked by whoever reads it; if each is, and the scanner ends without a fault, the
// array is.
type scanner struct {
	at      int // the next byte to look at
	begin   int // of the element that at is in
	found   int // elements so far
	depth   int
	quoted  bool // within a string
	escaped bool // after a backslash
	ended   bool // after the array's closing bracket
}

// errArray: what is between, before or after the elements is not JSON.
var errArray = errors.New("the body is not a JSON array: brackets or commas do not fit")

// next returns the next element in b, which is all of the body so far. Without
// one (ok is false) the array has ended, or more bytes are needed.
func (s *scanner) next(b []byte) (element []byte, ok bool, err error) {
	for !s.ended && s.at < len(b) {
		c := b[s.at]
		s.at++
		if s.quoted {
			switch {
			case s.escaped:
				s.escaped = false
			case c == '\\':
				s.escaped = true
			case c == '"':
				s.quoted = false
			}
			continue
		}
		switch c {
		case '"':
			s.quoted = true
		case '[', '{':
			if s.depth++; s.depth == 1 {
				s.begin = s.at
			}
		case ']', '}':
			if s.depth--; s.depth > 0 {
				continue
			}
			if c != ']' {
				return nil, false, errArray
			}
			s.ended = true
			if element, ok = s.cut(b); ok || s.found > 0 {
				s.found++
				return element, true, nil
			}
		case ',':
			if s.depth == 1 {
				element, _ = s.cut(b)
				s.found++
				return element, true, nil
			}
		}
	}
	if s.ended && len(bytes.TrimLeft(b[s.at:], " \t\r\n")) > 0 {
		return nil, false, fmt.Errorf("there is more after the array")
	}
	return nil, false, nil
}

// cut returns the element before at, and reports whether it has a byte at all.
func (s *scanner) cut(b []byte) ([]byte, bool) {
	element := bytes.Trim(b[s.begin:s.at-1], " \t\r\n")
	s.begin = s.at
	return element, len(element) > 0
}

// postArray reads an array element by element while it arrives: the first fault
// ends the request, whatever else would have come. Nothing is published before
// all of it is checked. Only the body is kept in between, and read again then:
// what is made of an element takes more memory than the element.
func (s *Service) postArray(w http.ResponseWriter, r *http.Request, o *origin, body *httpx.Body, m *meter) error {
	free := func() {}
	defer func() { free() }()
	large := false
	var in scanner
	for {
		element, ok, err := in.next(body.Bytes())
		switch {
		case err != nil:
			return proto.ProblemInvalidJSON.With(err.Error())
		case ok:
			at := "/" + strconv.Itoa(in.found-1)
			p, err := s.parse(o, element, at)
			if err == nil {
				err = m.count(&p, at)
			}
			if err != nil {
				return err
			}
		case in.at-in.begin > s.maxPublication() && !in.ended:
			return s.tooLong("/" + strconv.Itoa(in.found))
		case !body.Ended():
			if !large && len(body.Bytes()) > largeBody {
				large = true
				if free, err = s.largePlace(r.Context(), o.KeyID); err != nil {
					free = func() {}
					return err
				}
			}
			if err := body.More(); err != nil {
				return err
			}
		case !in.ended:
			return proto.ProblemInvalidJSON.With("the body ended early")
		default:
			return s.publishAll(w, r, o, elements(body.Bytes()), m.messages)
		}
	}
}

// elements are the publications of an array that was checked, with their
// places.
func elements(body []byte) iter.Seq2[int, proto.Publication] {
	return func(yield func(int, proto.Publication) bool) {
		var in scanner
		for {
			element, ok, err := in.next(body)
			if !ok || err != nil {
				return
			}
			p, err := proto.ParsePublication(element, math.MaxInt)
			if err != nil {
				panic("ingest: a publication that was checked does not parse: " + err.Error()) // a programming fault
			}
			if !yield(in.found-1, p) {
				return
			}
		}
	}
}

// maxPublication bounds one publication as it is written, in bytes: what it may
// have as data, and room for what surrounds it.
func (s *Service) maxPublication() int {
	return s.publisher.MaxData(s.current.Load().MaxMessageBytes) + lineEnvelope
}

func (s *Service) tooLong(at string) error {
	return proto.ProblemTooLarge.With(fmt.Sprintf("the message has more than %d bytes", s.maxPublication())).At(at)
}

// largePlace waits for a place among the large bodies.
func (s *Service) largePlace(ctx context.Context, key string) (free func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	if free, err = s.large.Wait(ctx, key); err != nil {
		return nil, proto.ProblemUnavailable.With("too many large requests at once: " + err.Error())
	}
	return free, nil
}
