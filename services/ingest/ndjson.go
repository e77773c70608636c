package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/retry"
)

const (
	// stallTimeout is how long the peer of a stream may neither send a byte
	// nor read one. A stream that flows may last for ever.
	stallTimeout = 30 * time.Second
	// lingerTimeout and lingerBytes bound how much of a stream that was cut off
	// is still read and discarded: a socket that is closed with bytes unread is
	// reset, and the client might lose the last results. net/http does as much
	// elsewhere.
	lingerTimeout = 500 * time.Millisecond
	lingerBytes   = 256 << 10
	// lineEnvelope is room on a line for what surrounds the data: a hundred
	// channels of 255 bytes, and the rest.
	lineEnvelope = 32 << 10
	// maxPace is how long a line waits for the key's rate before it is given
	// up. A stream is not refused for being fast, it is read more slowly.
	maxPace = 5 * time.Second
	// maxPause is how long a stream stands still after a line that was given up
	// for the key's rate, so that it is not read at full speed.
	maxPause = 100 * time.Millisecond
	// reauthEvery is how often the key of a running stream is looked up
	// again, so that a revoked one ends it.
	reauthEvery = 250 * time.Millisecond
)

// errCutOff: a stream whose answer has begun did not come to its end.
var errCutOff = errors.New("the stream was cut off")

// postStream is POST /v1/messages with NDJSON. An answer that is cut off ends
// without its last line and without the proper end of an HTTP body, and its
// connection closes: net/http would read the rest of the body as the
// next request, since it does not read a full-duplex body to its end by
// itself (Go 1.26).
func (s *Service) postStream(w http.ResponseWriter, r *http.Request, o *origin) error {
	rc := http.NewResponseController(w)
	if err := rc.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("read and write at once: %w", err)
	}
	err := s.relay(w, r, rc, o)
	if errors.Is(err, errCutOff) {
		_ = rc.SetReadDeadline(time.Now().Add(lingerTimeout)) // without deadlines the server's own holds
		_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		w.Header().Set("Connection", "close")
	}
	return err
}

// relay reads lines and publishes them on this goroutine; a second one, which
// ends before this returns, writes the results in the same order. At most
// publish.MaxWindow results are between them, so a client that does not read its
// answer is soon not read from either, and cut off after stallTimeout. Errors
// are errCutOff, or, before the answer has begun, what to answer.
func (s *Service) relay(w http.ResponseWriter, r *http.Request, rc *http.ResponseController, o *origin) error {
	// ctx ends when the service stops or the answer cannot be written, and
	// wakes the reader.
	ctx, cancel := context.WithCancel(s.draining)
	woken := make(chan struct{})
	asleep := context.AfterFunc(ctx, func() {
		_ = rc.SetReadDeadline(time.Now()) // without deadlines the next byte wakes it
		close(woken)
	})
	defer func() {
		if !asleep() {
			<-woken // nobody else may use the controller after this function
		}
		cancel()
	}()

	secret, err := httpx.APIKey(r)
	if err != nil {
		return err
	}
	in := &lineReader{r: bufio.NewReaderSize(&stallReader{ctx, r.Body, rc, s.stall}, s.maxPublication())}
	line, err := in.next()
	switch {
	case err == nil, err == io.EOF, errors.Is(err, errLongLine):
	case s.draining.Err() != nil:
		return proto.ProblemUnavailable.With("stopping")
	default:
		return fmt.Errorf("read the first line: %w", err)
	}

	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the answer back until its end
	out := &answer{publisher: s.publisher, queue: make(chan entry, publish.MaxWindow),
		w: newStallWriter(w, rc, s.stall), broken: cancel}
	var writer sync.WaitGroup
	writer.Go(func() { out.run(r.Context()) }) // ends when the queue is closed
	finish := sync.OnceFunc(func() {
		close(out.queue)
		writer.Wait()
	})
	defer finish() // also after a panic
	for checked := time.Now(); err == nil || errors.Is(err, errLongLine); line, err = in.next() {
		if time.Since(checked) > reauthEvery {
			checked = time.Now()
			grant, denied := s.ring.Authenticate(secret, checked)
			if denied != nil {
				s.publisher.Count(proto.StatusFailed)
				out.queue <- entry{Result: faulty(in.number, proto.StatusFailed,
					proto.ProblemUnauthorized.With(denied.Error()))}
				return errCutOff
			}
			o.Grant = grant
		}
		s.postLine(ctx, o, line, err, in.number, out.queue)
	}
	if finish(); err != io.EOF {
		return errCutOff
	}
	out.done()
	return nil
}

// entry is one line of the answer: a result, or a message under way that
// becomes one.
type entry struct {
	proto.Result
	delivery *publish.Delivery // nil: the result is complete
}

// faulty is the result of a line of which nothing was sent.
func faulty(number int, status string, p *proto.Problem) proto.Result {
	return proto.Result{Line: number, Status: status, Problem: p}
}

// postLine publishes one line and queues its results: one per channel, or one
// that says what is wrong. long is errLongLine or nil.
func (s *Service) postLine(ctx context.Context, o *origin, line []byte, long error, number int, queue chan<- entry) {
	var p proto.Publication
	err := long
	if err == nil {
		p, err = s.parse(o, line, "")
	}
	if err != nil {
		s.publisher.Count(proto.StatusInvalid)
		if wait, ok := pace(ctx, o.Grant); !ok { // a line that is refused counts, too
			_ = retry.Pause(ctx, min(wait, maxPause)) // the next read fails when ctx has ended
		}
		queue <- entry{Result: faulty(number, proto.StatusInvalid, httpx.Problem(err))}
		return
	}
	for _, channel := range p.Targets() {
		e := entry{Result: proto.Result{Line: number, Status: proto.StatusFailed, Channel: channel}}
		if wait, ok := pace(ctx, o.Grant); ok {
			e.delivery = s.publisher.Send(&o.Origin, &p, channel, number)
		} else {
			e.Problem = proto.ProblemTooManyRequests.With("the key's rate is used up; there is room again in " +
				wait.Truncate(time.Second).String())
			s.publisher.Count(proto.StatusFailed)
			_ = retry.Pause(ctx, min(wait, maxPause)) // the next read fails when ctx has ended
		}
		queue <- e
	}
}

// pace waits until the key's rate allows one more message. It reports false,
// and how long it would have to wait, if that is longer than maxPace or ctx
// ends.
func pace(ctx context.Context, g auth.Grant) (wait time.Duration, ok bool) {
	for {
		if wait, ok = g.Charge(1, time.Now()); ok {
			return 0, true
		}
		if wait > maxPace || retry.Pause(ctx, wait) != nil {
			return wait, false
		}
	}
}

// answer writes the results of a stream.
type answer struct {
	publisher *publish.Publisher
	queue     chan entry // closed by the reader of the stream
	w         *stallWriter
	broken    func() // called when the answer cannot be written

	// Owned by run, then by done.
	stored, failed int
	line           []byte // the memory of the last line
}

// run writes results until the queue is closed. They are flushed whenever
// the next one has to be waited for, so that they are seen at once and yet
// share packets.
func (a *answer) run(ctx context.Context) {
	for e := range a.queue {
		res := e.Result
		if e.delivery != nil {
			if !e.delivery.Settled() {
				a.flush()
			}
			var err error
			if res, err = a.publisher.Settle(ctx, e.delivery); err != nil {
				res.Problem = httpx.Problem(err)
			}
			res.Line = e.Line
		}
		switch res.Status {
		case proto.StatusFailed, proto.StatusInvalid:
			a.failed++
		default:
			a.stored++
		}
		a.line = append(res.AppendTo(a.line[:0]), '\n')
		a.write(a.line)
		if len(a.queue) == 0 {
			a.flush()
		}
	}
}

// done writes the last line, which says that nothing was cut off.
func (a *answer) done() {
	a.write(fmt.Appendf(nil, "{\"done\":true,\"stored\":%d,\"failed\":%d}\n", a.stored, a.failed))
	a.flush()
}

func (a *answer) write(line []byte) {
	if _, err := a.w.Write(line); err != nil {
		a.broken()
	}
}

func (a *answer) flush() {
	if err := a.w.Flush(); err != nil {
		a.broken()
	}
}
