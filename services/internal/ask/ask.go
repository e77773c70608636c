// Package ask asks the services of a Herald about themselves, over NATS: who is connected, what is refused, how a
// message went. A service answers with Serve; the console and herald top ask with a Client.
//
// A service is a NATS micro service (nats.go/micro) herald-NAME, so that `nats micro list` finds it. Each question WHAT
// has two subjects, and no queue group, unless it is one of Spec.Once, which have the first subject only:
//
//	herald.ask.SERVICE.WHAT            every instance answers; of Once: one, whichever NATS chooses
//	herald.ask.SERVICE.INSTANCE.WHAT   this one answers
//
// Questions and answers are JSON. An answer has at most MaxAnswer bytes: long lists are asked for in pages, and an
// instance keeps no more rows than a page has (Top). A member of a question that an instance does not know is refused,
// since an answer that leaves out a filter would look like one that heeds it.
//
// An instance answers at most maxAtOnce questions at the same time; others wait in its subscriptions. Nothing is kept,
// counted or computed while nobody asks.
package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

const (
	// MaxAnswer bounds one answer: half of what NATS carries in one message unless told otherwise.
	MaxAnswer = 512 << 10
	// maxAtOnce is how many questions an instance answers at the same time.
	maxAtOnce = 2
	// subjectBye is where an instance that stops says so: nobody needs to wait for it.
	subjectBye = "herald.ask.bye"
	// headerInstance is who answers, in the header of an answer.
	headerInstance = "Herald-Instance"
	prefix         = "herald.ask."
	// onceGroup is the queue group of those that answer what one of them answers.
	onceGroup = "herald"
)

// Subject is where every instance of a service is asked.
func Subject(service, what string) string { return prefix + service + "." + what }

// InstanceSubject is where one instance is asked.
func InstanceSubject(service, instance, what string) string {
	return prefix + service + "." + instance + "." + what
}

// Error is a refusal: the question is wrong, or is about something that is not there. Its text is for whoever asked.
type Error struct {
	Status int // of HTTP: 400, 404, 409 or 422
	Text   string
}

func (e *Error) Error() string { return e.Text }

// Refuse makes an *Error.
func Refuse(status int, format string, args ...any) error {
	return &Error{Status: status, Text: fmt.Sprintf(format, args...)}
}

// Answer answers one question. The client gets the text of an *Error; any other error
// is logged here, and the client only gets that the question failed.
type Answer func(ctx context.Context, question []byte) (any, error)

// Handle makes an Answer of a function: an empty question is the zero Q.
func Handle[Q, A any](f func(context.Context, Q) (A, error)) Answer {
	return func(ctx context.Context, b []byte) (any, error) {
		var q Q
		if len(b) > 0 {
			d := json.NewDecoder(bytes.NewReader(b))
			d.DisallowUnknownFields()
			if err := d.Decode(&q); err != nil {
				return nil, Refuse(400, "the question is not understood: %v", err)
			}
		}
		return f(ctx, q)
	}
}

// Spec is a service that answers.
type Spec struct {
	NATS     *nats.Conn
	Log      *slog.Logger
	Service  string            // gateway
	Instance string            // a name that no other instance has; no dot in it
	Version  string            // of the build
	Answers  map[string]Answer // by question; words of [a-z-] with dots between
	// Once are the questions that one instance answers, whichever NATS chooses: they do something, or take long. They
	// do not count among those that are answered at the same time; each kind of them is answered one after the other.
	Once map[string]Answer
}

// Serve answers until ctx ends, and returns when the last answer is given.
func Serve(ctx context.Context, spec Spec) error {
	svc, err := micro.AddService(spec.NATS, micro.Config{
		Name: "herald-" + spec.Service, Version: semver(spec.Version),
		Description: "Answers questions of Herald's console.",
		Metadata:    map[string]string{"instance": spec.Instance}, QueueGroupDisabled: true,
	})
	if err != nil {
		return fmt.Errorf("answer questions as %s: %w", spec.Service, err)
	}
	s := &server{Spec: spec, ctx: ctx, places: make(chan struct{}, maxAtOnce)}
	for _, what := range slices.Sorted(maps.Keys(spec.Answers)) {
		name := strings.ReplaceAll(what, ".", "-")
		for n, subject := range map[string]string{name: Subject(spec.Service, what), name +
			"-one": InstanceSubject(spec.Service, spec.Instance, what)} {
			if err := svc.AddEndpoint(n, s.handler(what, spec.Answers[what], s.places),
				micro.WithEndpointSubject(subject)); err != nil {
				return errors.Join(fmt.Errorf("answer questions about %s: %w", what, err), svc.Stop())
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(spec.Once)) {
		if err := svc.AddEndpoint(strings.ReplaceAll(what, ".", "-"),
			s.handler(what, spec.Once[what], make(chan struct{}, 1)),
			micro.WithEndpointSubject(Subject(spec.Service, what)),
			micro.WithEndpointQueueGroup(onceGroup)); err != nil {
			return errors.Join(fmt.Errorf("answer questions about %s: %w", what, err), svc.Stop())
		}
	}
	<-ctx.Done()
	if b, err := json.Marshal(bye{spec.Service, spec.Instance}); err == nil {
		_ = spec.NATS.Publish(subjectBye, b) // who asks notices without it, too
	}
	_ = svc.Stop() // fails on a closed connection only
	s.end()
	return nil
}

// bye is what an instance that stops says.
type bye struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
}

// server is what the callbacks of one Serve share.
type server struct {
	Spec
	ctx    context.Context
	places chan struct{} // one for each answer that is being made; never closed

	mu      sync.Mutex
	ended   bool           // guarded by mu
	answers sync.WaitGroup // callbacks under way; not added to once ended
}

// end waits for the answers that are being made, and has later questions unanswered.
func (s *server) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.answers.Wait()
}

func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.answers.Add(1)
	}
	return !s.ended
}

// handler answers one question in the goroutine of its subscription.
// places has one place for each answer that may be made at the same time.
func (s *server) handler(what string, answer Answer, places chan struct{}) micro.HandlerFunc {
	from := micro.WithHeaders(micro.Headers{headerInstance: {s.Instance}})
	return func(r micro.Request) {
		if !s.enter() {
			return
		}
		defer s.answers.Done()
		places <- struct{}{}
		defer func() { <-places }()
		b, err := s.answer(answer, r.Data())
		if err == nil {
			err = r.Respond(b, from)
		} else if e := (*Error)(nil); errors.As(err, &e) {
			err = r.Error(strconv.Itoa(e.Status), oneLine(e.Text), nil, from)
		} else if s.ctx.Err() == nil {
			s.Log.Error("a question could not be answered", "what", what, "err", err)
			err = r.Error("500", what+" could not be answered; the log of "+s.Service+" "+s.Instance+" says why", nil,
				from)
		}
		if err != nil { // who asked waits in vain, and says so
			s.Log.Debug("an answer could not be sent", "what", what, "err", err)
		}
	}
}

// answer makes the bytes of an answer. A panic in it ends no more than this answer.
func (s *server) answer(answer Answer, question []byte) (b []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	v, err := answer(s.ctx, question)
	if err != nil {
		return nil, err
	}
	if b, err = json.Marshal(v); err != nil {
		return nil, err
	}
	if len(b) > MaxAnswer {
		return nil, Refuse(400, "the answer would have %d bytes, at most %d are sent; ask for fewer rows", len(b),
			MaxAnswer)
	}
	return b, nil
}

// oneLine is a text that may stand in a NATS header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}

var semantic = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)$`)

// semver is a version as package micro wants it.
func semver(version string) string {
	if m := semantic.FindStringSubmatch(version); m != nil {
		return m[1]
	}
	return "0.0.0"
}
