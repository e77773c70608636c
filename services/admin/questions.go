package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
)

// all asks every instance of a service. Errors are problems.
func all[A any](ctx context.Context, s *Service, service, what string, question any) ([]ask.From[A], []string, error) {
	answers, silent, err := ask.All[A](ctx, s.ask, service, what, question)
	return answers, silent, askProblem(err)
}

// one asks one instance. Errors are problems.
func one[A any](ctx context.Context, s *Service, service, instance, what string, question any) (A, error) {
	a, err := ask.One[A](ctx, s.ask, service, instance, what, question)
	return a, askProblem(err)
}

// askProblem is what the page is told of a question that failed.
func askProblem(err error) error {
	var e *ask.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return proto.ProblemUnavailable.With(trouble(err))
	case e.Status == http.StatusNotFound:
		return proto.ProblemNotFound.With(e.Text)
	case e.Status == http.StatusConflict:
		return problemConflict.With(e.Text)
	case e.Status == http.StatusUnprocessableEntity:
		return problemInvalid.With(e.Text)
	}
	return proto.ProblemInvalidParameter.With(e.Text)
}

// sentences joins who did not answer several questions, each once, and is not nil: [] in JSON.
func sentences(lists ...[]string) []string {
	out := slices.Concat(lists...)
	slices.Sort(out)
	if out = slices.Compact(out); out == nil {
		out = []string{}
	}
	return out
}
