package settings

import (
	"context"
	"errors"

	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
)

// Asked is the name under which each process answers questions about its settings, as
// package ask has it: a process, and not each of its services.
const Asked = "process"

// Questions.
const (
	AskDescriptions = "settings"
	AskCheck        = "check"
)

// CheckQuestion asks whether a value would act if it were stored.
type CheckQuestion struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// CheckAnswer is the answer of one process. One that does not have the setting, or cannot
// change it while it runs, has no Fault to report.
type CheckAnswer struct {
	Known  bool   `json:"known"`  // the process has the setting
	Live   bool   `json:"live"`   // and it changes while it runs
	Locked bool   `json:"locked"` // and a flag wins over what is stored
	Fault  string `json:"fault"`  // why the value would not act
}

// answer serves Describe and Check to the console until ctx ends.
func (l *Live) answer(ctx context.Context, nc *nats.Conn) error {
	return ask.Serve(ctx, ask.Spec{
		NATS: nc, Log: l.log, Service: Asked, Instance: httpx.NewID(), Version: telemetry.BuildVersion(),
		Answers: map[string]ask.Answer{
			AskDescriptions: ask.Handle(func(context.Context, struct{}) ([]Description, error) {
				return l.Describe(), nil
			}),
			AskCheck: ask.Handle(func(_ context.Context, q CheckQuestion) (CheckAnswer, error) {
				err := l.Check(q.Name, q.Value)
				a := CheckAnswer{Known: !errors.Is(err, ErrUnknown), Locked: errors.Is(err, ErrLocked)}
				a.Live = a.Known && !errors.Is(err, ErrFixed)
				if a.Live && err != nil {
					a.Fault = err.Error()
				}
				return a, nil
			}),
		},
	})
}
