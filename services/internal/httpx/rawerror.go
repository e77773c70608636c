package httpx

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/herald-push/herald/proto"
)

// rawErrorHeaders is what net/http writes, straight to the socket, after the
// status line of a request that it refuses before any handler (net/http,
// server.go, errorHeaders). An answer of a handler has a Date as well.
var rawErrorHeaders = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// rawProblem is such an answer as a problem document; nil: b is another one.
func rawProblem(b []byte) []byte {
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 4")) {
		return nil
	}
	status, text, found := bytes.Cut(b, rawErrorHeaders)
	if !found || bytes.ContainsRune(status, '\n') {
		return nil
	}
	var p *proto.Problem
	switch {
	case bytes.HasPrefix(text, []byte("431 ")):
		p = proto.ProblemHeaderTooLarge.With(fmt.Sprintf("URL and headers together may have %d bytes", maxHeaderBytes))
	case bytes.HasPrefix(text, []byte("400 ")):
		p = proto.ProblemInvalidParameter.With("the request is not valid HTTP: " +
			string(bytes.TrimPrefix(text, []byte("400 "))))
	default:
		return nil
	}
	body, err := proto.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("httpx: problem does not marshal: %v", err))
	}
	return fmt.Appendf(nil,
		"HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\nContent-Length: "+
			"%d\r\nConnection: close\r\n\r\n%s\n",
		p.Status, http.StatusText(p.Status), len(body)+1, body)
}

// Write writes to the socket. What net/http itself answers to a request is
// written as a problem document, like every other refusal; beneath TLS it cannot
// be seen, and stays plain text.
func (s *Socket) Write(b []byte) (int, error) {
	problem := rawProblem(b)
	if problem == nil {
		return s.Conn.Write(b)
	}
	if _, err := s.Conn.Write(problem); err != nil {
		return 0, err
	}
	return len(b), nil
}
