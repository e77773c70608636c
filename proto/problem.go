package proto

import "net/http"

// Problem is an RFC 9457 problem document, the answer to every HTTP call that
// failed (but POST /notify, which keeps its predecessor's shape):
//
//	{"type":"urn:herald:problem:invalid-message","title":"The message is not valid","status":400,
//	 "detail":"channel: …","pointer":"/3/channel","request":"…"}
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Pointer says where in the body the fault is, as a JSON pointer (RFC 6901).
	Pointer string `json:"pointer,omitempty"`
	// Request is the id under which the service logged the call.
	Request string `json:"request,omitempty"`
	// Results has one entry per message where some were stored and others not.
	Results []Result `json:"results,omitempty"`
}

// Error makes a problem an error, so that one function at the edge can map
// errors to answers.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// With returns a copy of the problem with this detail.
func (p *Problem) With(detail string) *Problem {
	q := *p
	q.Detail = detail
	return &q
}

// At returns a copy of the problem with this JSON pointer.
func (p *Problem) At(pointer string) *Problem {
	q := *p
	q.Pointer = pointer
	return &q
}

func problem(name string, status int, title string) *Problem {
	return &Problem{Type: "urn:herald:problem:" + name, Title: title, Status: status}
}

// Every kind of problem. Types are stable: clients may compare them.
var (
	ProblemInvalidJSON      = problem("invalid-json", http.StatusBadRequest, "The body is not valid JSON")
	ProblemInvalidMessage   = problem("invalid-message", http.StatusBadRequest, "The message is not valid")
	ProblemInvalidParameter = problem("invalid-parameter", http.StatusBadRequest, "A parameter is not valid")
	ProblemUnauthorized     = problem("unauthorized", http.StatusUnauthorized, "A valid key or token is needed")
	ProblemForbidden        = problem("forbidden", http.StatusForbidden, "This key or token does not allow that")
	ProblemOrigin           = problem("origin-not-allowed", http.StatusForbidden,
		"Pages of this origin may not connect")
	ProblemNotFound = problem("not-found", http.StatusNotFound, "There is nothing here")
	ProblemMethod   = problem("method-not-allowed", http.StatusMethodNotAllowed,
		"This path does not take that method")
	ProblemGone           = problem("gone", http.StatusGone, "The id is older than what is kept, or not of this stream")
	ProblemTooLarge       = problem("too-large", http.StatusRequestEntityTooLarge, "The body is too large")
	ProblemHeaderTooLarge = problem("header-too-large", http.StatusRequestHeaderFieldsTooLarge,
		"The headers are too large")
	ProblemMediaType = problem("unsupported-media-type", http.StatusUnsupportedMediaType,
		"The content type is not supported")
	ProblemUpgrade         = problem("upgrade-required", http.StatusUpgradeRequired, "This path speaks WebSocket")
	ProblemTooManyRequests = problem("too-many-requests", http.StatusTooManyRequests, "Too many requests")
	ProblemTimeout         = problem("timeout", http.StatusRequestTimeout, "The request took too long to arrive")
	ProblemInternal        = problem("internal", http.StatusInternalServerError, "Something went wrong on our side")
	ProblemUnavailable     = problem("unavailable", http.StatusServiceUnavailable,
		"The service cannot do this now; try again")
	ProblemNotStored = problem("not-stored", http.StatusServiceUnavailable,
		"The message was not stored; send it again with the same idempotency key")
)
