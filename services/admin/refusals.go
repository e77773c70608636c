package admin

import (
	"net/http"
	"slices"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
)

// maxRefusals bounds the rows of one answer.
const maxRefusals = 1000

// getRefusals is who was refused lately, and why, on all gateways and ingests, the newest first.
func (s *Service) getRefusals(w http.ResponseWriter, r *http.Request, _ *call) error {
	values, err := httpx.Query(r, nil, "reason", "address")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	q := ask.RefusalsQuestion{Reason: values.Get("reason"), Address: values.Get("address")}
	out := struct {
		Rows   []ask.Refusal `json:"rows"`
		Silent []string      `json:"silent"`
	}{Rows: []ask.Refusal{}}
	for _, service := range []string{ask.Gateway, ask.Ingest} {
		answers, silent, err := all[ask.RefusalsAnswer](r.Context(), s, service, ask.Refusals, q)
		if err != nil {
			return err
		}
		out.Silent = append(out.Silent, silent...)
		for _, a := range answers {
			out.Rows = append(out.Rows, a.Answer.Rows...)
		}
	}
	out.Silent = sentences(out.Silent)
	slices.SortStableFunc(out.Rows, func(a, b ask.Refusal) int { return b.Time.Compare(a.Time) })
	out.Rows = out.Rows[:min(len(out.Rows), maxRefusals)]
	httpx.WriteJSON(w, http.StatusOK, out)
	return nil
}
