package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/internal/kvcache"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func problem(name string, status int, title string) *proto.Problem {
	return &proto.Problem{Type: "urn:herald:problem:" + name, Title: title, Status: status}
}

// Problems of the console, beside those of proto. The page shows title and
// detail as they are.
var (
	problemLogin    = problem("login-needed", http.StatusUnauthorized, "Log in first")
	problemExpired  = problem("session-ended", http.StatusUnauthorized, "The session has ended; log in again")
	problemPassword = problem("wrong-password", http.StatusUnauthorized, "User or password is wrong")
	problemRole     = problem("role", http.StatusForbidden, "Your role does not allow that")
	problemForgery  = problem("forgery", http.StatusForbidden, "The call does not come from the console's own page")
	problemPlace    = problem("only-here", http.StatusForbidden, "The console is open on this machine only")
	problemConflict = problem("conflict", http.StatusConflict, "That does not fit what is there")
	problemInvalid  = problem("invalid-value", http.StatusUnprocessableEntity, "The value is not valid")
)

// problemNotReady is the answer while NATS does not answer: that passes.
func problemNotReady(err error) error {
	var p *proto.Problem
	if errors.As(err, &p) {
		return p
	}
	return proto.ProblemUnavailable.With("NATS does not answer the console: " + trouble(err))
}

// trouble words an error of NATS for people.
func trouble(err error) string {
	is := func(kinds ...error) bool {
		return slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) })
	}
	switch {
	case is(context.DeadlineExceeded, nats.ErrTimeout):
		return "it took too long"
	case is(jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound):
		return "what was asked for is not there; a service may still be making it"
	case is(nats.ErrNoResponders, jetstream.ErrNoStreamResponse, jetstream.ErrJetStreamNotEnabled):
		return "its JetStream is not there, or has no leader at the moment"
	case is(nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrReconnectBufExceeded, kvcache.ErrAway):
		return "there is no connection to it"
	}
	return err.Error()
}
