package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/herald-push/herald/services/internal/settings"
)

// maxSetting bounds a value: some hundred origins.
const maxSetting = 16 << 10

// setting is one of all processes.
type setting struct {
	settings.Description
	// Differs has the processes where another value acts than Value.
	Differs []elsewhere `json:"differs,omitempty"`
}

// elsewhere is what a setting is in one process.
type elsewhere struct {
	Process  string   `json:"process"`
	Services []string `json:"services"`
	Value    string   `json:"value"`
	Source   string   `json:"source"`
}

// settingsAnswer is the answer of GET settings.
type settingsAnswer struct {
	Settings []setting `json:"settings"`
	Silent   []string  `json:"silent"`
}

// getSettings lists the settings of all processes.
func (s *Service) getSettings(w http.ResponseWriter, r *http.Request, _ *call) error {
	all, err := s.allSettings(r.Context())
	if err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, all)
	return nil
}

// processes are the settings of each process that answers, and who does not.
func (s *Service) processes(ctx context.Context) ([]ask.From[[]settings.Description], []string, error) {
	answers, silent, err := ask.All[[]settings.Description](ctx, s.ask, settings.Asked, settings.AskDescriptions,
		struct{}{})
	if err != nil {
		return nil, nil, problemNotReady(err)
	}
	return answers, silent, nil
}

// allSettings asks every process.
func (s *Service) allSettings(ctx context.Context) (*settingsAnswer, error) {
	answers, silent, err := s.processes(ctx)
	if err != nil {
		return nil, err
	}
	all := &settingsAnswer{Settings: []setting{}, Silent: slices.Concat([]string{}, silent)}
	for _, process := range answers {
		for _, d := range process.Answer {
			i := slices.IndexFunc(all.Settings, func(known setting) bool { return known.Name == d.Name })
			if i < 0 {
				all.Settings = append(all.Settings, setting{Description: d})
				continue
			}
			all.Settings[i].merge(process.Instance, d)
		}
	}
	slices.SortStableFunc(all.Settings, func(a, b setting) int { return strings.Compare(a.Group, b.Group) })
	return all, nil
}

// merge adds what the setting is in another process. The one where it changes while
// it runs speaks for all.
func (one *setting) merge(process string, d settings.Description) {
	has := &one.Description
	if d.Live && !has.Live {
		d, *has = *has, d
	}
	has.Services = slices.Compact(slices.Sorted(slices.Values(slices.Concat(has.Services, d.Services))))
	if d.Live && d.Locked != "" {
		has.Locked = d.Locked
	}
	if has.Fault == "" {
		has.Fault = d.Fault
	}
	if d.Value != has.Value && d.Live == has.Live {
		one.Differs = append(one.Differs, elsewhere{process, d.Services, d.Value, string(d.Source)})
	}
}

// putSetting stores a value that every process accepts, and answers what the setting is
// then.
func (s *Service) putSetting(w http.ResponseWriter, r *http.Request, c *call) error {
	var body struct {
		Value *string `json:"value"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	name := chi.URLParam(r, "name")
	switch {
	case body.Value == nil:
		return problemInvalid.With(`want {"value": "…"}, the value as text`)
	case len(*body.Value) > maxSetting:
		return problemInvalid.With(fmt.Sprintf("%s: the value has %d bytes; at most %d are stored", name,
			len(*body.Value), maxSetting))
	}
	if err := s.checkSetting(r.Context(), name, body.Value); err != nil {
		return err
	}
	return s.changeSetting(w, r, c, "setting.set", name, body.Value)
}

// deleteSetting removes what is stored: environment, file or default act again.
func (s *Service) deleteSetting(w http.ResponseWriter, r *http.Request, c *call) error {
	name := chi.URLParam(r, "name")
	if err := s.checkSetting(r.Context(), name, nil); err != nil {
		return err
	}
	return s.changeSetting(w, r, c, "setting.unset", name, nil)
}

// checkSetting asks every process that has the setting whether it would accept value;
// nil asks only whether there is such a setting. The error is a problem.
func (s *Service) checkSetting(ctx context.Context, name string, value *string) error {
	q := settings.CheckQuestion{Name: name}
	if value != nil {
		q.Value = *value
	}
	answers, _, err := ask.All[settings.CheckAnswer](ctx, s.ask, settings.Asked, settings.AskCheck, q)
	if err != nil {
		return problemNotReady(err)
	}
	known, live := false, false
	for _, a := range answers {
		known, live = known || a.Answer.Known, live || a.Answer.Live
		switch {
		case value == nil:
		case a.Answer.Locked:
			return problemConflict.With(name + ": " + a.Answer.Fault)
		case a.Answer.Fault != "":
			return problemInvalid.With(a.Answer.Fault)
		}
	}
	switch {
	case len(answers) == 0:
		return problemNotReady(errors.New("no process answers questions about settings"))
	case !known:
		return proto.ProblemNotFound.With("there is no setting " + name)
	case !live:
		return problemConflict.With(name + ": " + settings.ErrFixed.Error())
	}
	return nil
}

// changeSetting stores a value, or removes it, waits until every process has it, and answers
// with the setting.
func (s *Service) changeSetting(w http.ResponseWriter, r *http.Request, c *call, action, name string,
	value *string) error {
	store, revision, err := s.settingStore(r.Context(), name)
	if err != nil {
		return err
	}
	before, err := s.oneSetting(r.Context(), name)
	if err != nil {
		return err
	}
	var after *setting
	what := intent{action: action, target: name, before: before.Value, after: value}
	err = s.act(r.Context(), c, what, func() (any, error) {
		switch err := store.Replace(r.Context(), name, value, revision); {
		case errors.Is(err, settings.ErrChanged):
			return nil, problemConflict.With(err.Error())
		case err != nil:
			return nil, problemNotReady(err)
		}
		// the value is stored, but whether it is in effect is not known
		if after, err = s.awaitSetting(r.Context(), name, value); err != nil {
			return nil, err
		}
		if value != nil { // whatever acts by now
			return *value, nil
		}
		return after.Value, nil
	})
	if err != nil {
		return err
	}
	s.log.Info("setting changed", "setting", name, "user", c.user, "was", before.Value, "is", after.Value)
	httpx.WriteJSON(w, http.StatusOK, after)
	return nil
}

// settingStore is where settings are stored, and the revision of what is stored for one.
// Errors are problems.
func (s *Service) settingStore(ctx context.Context, name string) (*settings.Store, uint64, error) {
	store, err := settings.Open(ctx, s.js)
	if errors.Is(err, bucket.ErrNone) {
		return nil, 0, problemConflict.With(err.Error())
	}
	if err != nil {
		return nil, 0, problemNotReady(err)
	}
	revision, err := store.Revision(ctx, name)
	if err != nil {
		return nil, 0, problemNotReady(err)
	}
	return store, revision, nil
}

const (
	// settingWait is how long a process may take to follow a change.
	settingWait = 2 * time.Second
	settingPoll = 20 * time.Millisecond
)

// awaitSetting is the setting as soon as every process goes by what is stored, or as
// it is when settingWait is over.
func (s *Service) awaitSetting(ctx context.Context, name string, value *string) (*setting, error) {
	stored := ""
	if value != nil {
		stored = *value
	}
	for end := time.Now().Add(settingWait); time.Now().Before(end); {
		answers, _, err := s.processes(ctx)
		if err != nil {
			return nil, err
		}
		late := slices.ContainsFunc(answers, func(a ask.From[[]settings.Description]) bool {
			return slices.ContainsFunc(a.Answer, func(d settings.Description) bool {
				return d.Name == name && d.Live &&
					d.Stored != stored
			})
		})
		if !late {
			break
		}
		if err := retry.Pause(ctx, settingPoll); err != nil {
			return nil, err
		}
	}
	return s.oneSetting(ctx, name)
}

func (s *Service) oneSetting(ctx context.Context, name string) (*setting, error) {
	all, err := s.allSettings(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all.Settings {
		if all.Settings[i].Name == name {
			return &all.Settings[i], nil
		}
	}
	return nil, proto.ProblemNotFound.With("there is no setting " + name)
}
