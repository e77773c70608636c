package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// idleStream is how long a stream of lines may have nothing to send before it ends;
// the next line begins another. It is shorter than the time after which Herald, or a
// proxy before it, considers a silent peer gone (30 s).
const idleStream = 5 * time.Second

// lastResults is how long results are waited for after Ctrl-C.
const lastResults = 5 * time.Second

// shownRefusals is how many refused lines are explained.
const shownRefusals = 10

// inputLine is one line of what is sent.
type inputLine struct {
	number int
	text   []byte
	size   int   // bytes of the input up to its end, with those of empty lines before it
	fault  error // why it cannot be sent
}

// tally is how far the lines of one command have come.
type tally struct {
	out     io.Writer // results, as JSON lines; nil: nowhere
	err     io.Writer
	bar     *progressbar.ProgressBar // nil: no terminal
	began   time.Time
	stored  int
	refused int
	last    int // number of the newest line that was stored or refused
}

// lines publishes each line of the file, or of standard input, that is not empty,
// as the lines come: in streams of NDJSON, whose results come in the same order.
func (s *sender) lines(ctx context.Context) error {
	in, size := s.std.in, int64(-1)
	if s.file != "" && s.file != "-" {
		f, err := os.Open(s.file)
		if err != nil {
			return fmt.Errorf("file: %w", err)
		}
		defer func() { _ = f.Close() }() // only read from
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	t := newTally(s.std, size, in != s.std.in || !isTerminal(s.std.in))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input, read := make(chan inputLine), make(chan error, 1)
	go func() { // ends with the input or the context; a read that waits for a terminal ends with the process
		read <- readLines(ctx, in, input)
		close(input)
	}()
	var err error
	for more := true; more && err == nil; {
		var l inputLine
		select {
		case l, more = <-input:
		case <-ctx.Done():
			more = false
		}
		if more {
			err = s.burst(ctx, l, input, t)
		}
	}
	t.finish()
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil && t.last == 0:
		return fmt.Errorf("nothing was sent: %w", context.Cause(ctx))
	case ctx.Err() != nil:
		return fmt.Errorf("nothing was sent after line %d: %w", t.last, context.Cause(ctx))
	}
	switch err := <-read; {
	case err != nil:
		return fmt.Errorf("read the lines: %w", err)
	case t.refused > 0:
		return fmt.Errorf("%d of %d lines were refused; the others were sent", t.refused, t.refused+t.stored)
	case t.stored == 0:
		return errors.New("nothing to send: give the message as arguments, or lines in a file or on standard input")
	}
	return nil
}

// readLines hands over the lines of r that are not empty. A byte order mark before the
// first, which editors on Windows write, is none of its text.
func readLines(ctx context.Context, r io.Reader, lines chan<- inputLine) error {
	in := bufio.NewReaderSize(r, 64<<10)
	skipped := 0
	for n := 1; ; n++ {
		l, err := readLine(in)
		l.number = n
		if l.size += skipped; n == 1 {
			l.text = bytes.TrimPrefix(l.text, []byte("\ufeff"))
		}
		if skipped = l.size; len(l.text) > 0 || l.fault != nil {
			skipped = 0
			select {
			case lines <- l:
			case <-ctx.Done():
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// readLine is the next line of in, without its end. The last one comes with io.EOF.
// A line that is longer than every request is read, and not kept.
func readLine(in *bufio.Reader) (l inputLine, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if l.size += len(part); l.size > proto.MaxRequestBytes {
			l.text, l.fault = nil, fmt.Errorf("it has more than %d bytes", proto.MaxRequestBytes)
		} else {
			l.text = append(l.text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			l.text = bytes.TrimSuffix(bytes.TrimSuffix(l.text, []byte("\n")), []byte("\r"))
			return l, err
		}
	}
}

// burst sends first and what follows it as one stream, until nothing has come for
// idleStream. When ctx ends it sends no further line, and waits lastResults for the
// results of those that were sent.
func (s *sender) burst(ctx context.Context, first inputLine, input <-chan inputLine, t *tally) error {
	under, cancel := outlast(ctx)
	defer cancel()
	body, to := io.Pipe()
	var mu sync.Mutex
	var waiting []inputLine // guarded by mu; written, and without a result
	var writer sync.WaitGroup
	writer.Go(func() { // ends when body is closed, below at the latest, or the stream ends
		idle := time.NewTimer(idleStream)
		defer idle.Stop()
		for l, more := first, true; more; {
			message, fault := s.message(l)
			mu.Lock()
			if fault != nil {
				t.refuse(l, fault.Error())
			} else {
				waiting = append(waiting, l)
			}
			mu.Unlock()
			if fault == nil {
				if _, err := to.Write(append(message, '\n')); err != nil {
					return
				}
			}
			idle.Reset(idleStream)
			select {
			case l, more = <-input:
			case <-idle.C:
				more = false
			case <-ctx.Done():
				more = false
			case <-under.Done():
				more = false
			}
		}
		_ = to.Close()
	})
	defer writer.Wait()
	defer func() { _ = body.Close() }()
	defer cancel()
	resp, err := s.stream(under, http.MethodPost, "/v1/messages", nil, "application/x-ndjson", body)
	if cause := interrupted(ctx); errors.Is(err, context.Canceled) && cause != nil {
		return unanswered(cause, first.number)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", first.number, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	results := bufio.NewReader(resp.Body)
	for {
		b, err := results.ReadBytes('\n')
		var result struct {
			proto.Result
			Done bool `json:"done"`
		}
		if err == nil {
			err = json.Unmarshal(b, &result)
		}
		mu.Lock()
		if err == nil && result.Done {
			mu.Unlock()
			return nil
		}
		if err != nil || len(waiting) == 0 {
			defer mu.Unlock()
			if cause := interrupted(ctx); cause != nil && under.Err() != nil && len(waiting) > 0 {
				return unanswered(cause, waiting[0].number)
			}
			if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("it was closed at the other end")
			}
			if len(waiting) == 0 {
				return fmt.Errorf("the connection broke after every line was answered: %w", err)
			}
			return fmt.Errorf("the connection broke: %w; lines from %d on may be stored or not: send them again", err,
				waiting[0].number)
		}
		l := waiting[0]
		waiting = waiting[1:]
		t.result(l, result.Result)
		mu.Unlock()
	}
}

// unanswered is the error of a stream that Ctrl-C ended, and whose results did not come in time after it.
func unanswered(cause error, from int) error {
	return fmt.Errorf("%w; no result came within %s: lines from %d on may be stored or not", cause, lastResults, from)
}

// outlast is a context that ends lastResults after ctx, or when end is called.
func outlast(ctx context.Context) (under context.Context, end context.CancelFunc) {
	under, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() { // this function's goroutine ends when under does
		late := time.AfterFunc(lastResults, cancel)
		<-under.Done()
		late.Stop()
	})
	return under, func() { forget(); cancel() }
}

// message is a line as ingest reads it in a stream.
func (s *sender) message(l inputLine) ([]byte, error) {
	p := struct {
		Channel   string          `json:"channel"`
		Event     string          `json:"event,omitempty"`
		Ephemeral bool            `json:"ephemeral,omitempty"`
		Data      json.RawMessage `json:"data"`
	}{s.channel, s.event, s.ephemeral, l.text}
	switch {
	case l.fault != nil:
		return nil, l.fault
	case !utf8.Valid(l.text):
		return nil, errors.New("it is not UTF-8")
	case !s.json:
		quoted, err := proto.Marshal(string(l.text))
		if err != nil {
			return nil, err
		}
		p.Data = quoted
	case !json.Valid(l.text):
		return nil, errors.New("it is not JSON")
	}
	return proto.Marshal(p)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// newTally begins to count. Where a person watches, and does not type the lines, a
// bar shows how far it is; size is that of all lines in bytes, -1 if nobody knows.
func newTally(std streams, size int64, bar bool) *tally {
	t := &tally{out: std.out, err: std.err, began: time.Now()}
	if !bar || !isTerminal(std.err) {
		return t
	}
	if isTerminal(std.out) {
		t.out = nil // the results would tear the bar
	}
	t.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(std.err), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(20),
		progressbar.OptionSetPredictTime(size > 0))
	return t
}

// result counts the result of one line and passes it on.
func (t *tally) result(l inputLine, r proto.Result) {
	r.Line = l.number
	if t.out != nil {
		b, err := proto.Marshal(r)
		if err == nil {
			_, _ = t.out.Write(append(b, '\n')) // who reads it may be gone
		}
	}
	if r.Problem != nil {
		t.refuse(l, r.Problem.Error())
		return
	}
	t.stored++
	t.advance(l)
}

// refuse counts a line that is not sent, and explains it.
func (t *tally) refuse(l inputLine, reason string) {
	t.refused++
	if t.refused <= shownRefusals {
		if t.bar != nil {
			_ = t.bar.Clear()
		}
		fmt.Fprintf(t.err, "herald: line %d: %s\n", l.number, onOneLine(reason))
	}
	if t.refused == shownRefusals {
		fmt.Fprintln(t.err, "herald: further refusals are counted, and not explained")
	}
	t.advance(l)
}

func (t *tally) advance(l inputLine) {
	t.last = max(t.last, l.number) // a refusal of this side overtakes results
	if t.bar == nil {
		return
	}
	rate := float64(t.stored+t.refused) / max(time.Since(t.began).Seconds(), 0.001)
	t.bar.Describe(fmt.Sprintf("%d sent, %d refused, %.0f/s", t.stored, t.refused, rate))
	_ = t.bar.Add(l.size)
}

// finish leaves the last state of the bar on a line of its own.
func (t *tally) finish() {
	if t.bar != nil {
		_ = t.bar.Exit()
		fmt.Fprintln(t.err)
	}
}
