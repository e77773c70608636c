package ingest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
)

// lineReader reads an NDJSON stream line by line. Its buffer bounds a line.
type lineReader struct {
	r      *bufio.Reader
	number int // of the last line that next returned, from 1; empty ones count
}

// errLongLine: the line did not fit into the buffer, and was skipped. It is a
// problem of its own, so that a line's result can show it.
var errLongLine = fmt.Errorf("skip a line: %w", proto.ProblemTooLarge.With("the line is too long"))

// next returns the next line that is not empty, without its end, valid until
// the following call. Errors: io.EOF after the last line, errLongLine, and
// what broke the stream; half a line is then none.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.r.ReadSlice('\n')
		l.number++
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
		switch {
		case err != nil && err != io.EOF:
			return nil, err
		case long:
			return nil, errLongLine
		}
		if l.number == 1 {
			line = proto.SkipBOM(line)
		}
		if line = bytes.Trim(line, " \t\r\n"); len(line) > 0 {
			return line, nil
		}
		if err == io.EOF {
			return nil, io.EOF
		}
	}
}

// stallReader gives each read of a body its own deadline, and none once ctx
// has ended.
type stallReader struct {
	ctx   context.Context
	r     io.Reader
	rc    *http.ResponseController
	stall time.Duration
}

func (s *stallReader) Read(p []byte) (int, error) {
	_ = s.rc.SetReadDeadline(time.Now().Add(s.stall)) // without deadlines the server's own holds
	// In this order: what ends ctx sets a deadline in the past afterwards.
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// stallWriter buffers, and gives each write to the network its own deadline.
type stallWriter struct {
	*bufio.Writer
	rc *http.ResponseController
}

// newStallWriter buffers 16 KiB: two hundred results.
func newStallWriter(w io.Writer, rc *http.ResponseController, stall time.Duration) *stallWriter {
	return &stallWriter{bufio.NewWriterSize(deadlineWriter{w, rc, stall}, 16<<10), rc}
}

// Flush sends what is buffered to the client.
func (s *stallWriter) Flush() error {
	if s.Buffered() == 0 {
		return nil
	}
	if err := s.Writer.Flush(); err != nil {
		return err
	}
	return s.rc.Flush()
}

type deadlineWriter struct {
	w     io.Writer
	rc    *http.ResponseController
	stall time.Duration
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.rc.SetWriteDeadline(time.Now().Add(d.stall)) // without deadlines the server's own holds
	return d.w.Write(p)
}
