package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
)

// mountApps adds the HTTP API of the Pusher protocol.
func (s *Service) mountApps(r chi.Router) {
	route := func(name, path string, h appHandler) {
		r.Post(path, s.count(name, s.traced(path, s.signed(h))))
	}
	route("pusher-events", "/apps/{app}/events", s.postEvents)
	route("pusher-batch", "/apps/{app}/batch_events", s.postBatch)
	route("pusher-users", "/apps/{app}/users/{user}/terminate_connections", s.noUsers)
	httpx.Get(r, "/apps/{app}/channels",
		s.count("pusher-channels", s.signed(s.getChannels, "filter_by_prefix", "info")))
	httpx.Get(r, "/apps/{app}/channels/{channel}", s.count("pusher-channels", s.signed(s.getChannel, "info")))
	httpx.Get(r, "/apps/{app}/channels/{channel}/users", s.count("pusher-users", s.signed(s.noUsers)))
}

// appCall is a request whose signature is right.
type appCall struct {
	app   *pusher.Entry
	grant auth.Grant
	query url.Values
}

type appHandler func(w http.ResponseWriter, r *http.Request, c *appCall) error

// signed lets only requests with a right signature through, before a byte of the body
// is read, and answers errors by problems. params are the call's parameters in the query.
func (s *Service) signed(h appHandler, params ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := s.appCall(r)
		if err == nil {
			err = checkParams(r, c.query, params)
		}
		if err == nil {
			err = h(w, r, c)
		}
		if err != nil {
			s.writeProblem(w, r, err)
		}
	}
}

func (s *Service) appCall(r *http.Request) (*appCall, error) {
	if err := s.started(); err != nil {
		return nil, proto.ProblemUnavailable.With(err.Error())
	}
	if !s.appsLoaded.Load() {
		return nil, proto.ProblemUnavailable.With("the apps are not loaded yet")
	}
	// SDKs that do not escape values (Python's) send the ; of channels' names as it is.
	query, err := url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, ";", "%3B"))
	if err != nil {
		return nil, proto.ProblemInvalidParameter.With("the query: " + err.Error())
	}
	refuse := func(reason string, err error) (*appCall, error) {
		s.metrics.authFailures.WithLabelValues(reason).Inc()
		return nil, proto.ProblemUnauthorized.With(err.Error())
	}
	app := s.apps.ByID(chi.URLParam(r, "app"))
	if app == nil {
		return refuse(reasonUnknown, errors.New("there is no app with this id; herald apps list shows those there are"))
	}
	switch err := app.VerifyRequest(r.Method, r.URL, query, time.Now()); {
	case errors.Is(err, pusher.ErrNoAuth):
		return refuse(reasonMissing, err)
	case errors.Is(err, pusher.ErrKey):
		return refuse(reasonUnknown, err)
	case errors.Is(err, pusher.ErrTimestamp):
		return refuse(reasonExpired, err)
	case err != nil:
		return refuse(reasonSignature, err)
	}
	p := &auth.Principal{Name: app.Name, Channels: []string{app.Pattern()}, Scopes: []auth.Scope{auth.Publish}}
	return &appCall{app: app, grant: auth.NewGrant(p, "app."+app.ID, app.Limit), query: query}, nil
}

// checkParams refuses parameters in the query that the call does not have there. Those of a POST may stand in the query
// by the protocol, which discourages it, and no SDK does it.
func checkParams(r *http.Request, query url.Values, known []string) error {
	for name, values := range query {
		switch {
		case strings.HasPrefix(name, "auth_") || name == "body_md5":
		case r.Method == http.MethodPost:
			return proto.ProblemInvalidParameter.With(fmt.Sprintf(
				"%.60q: parameters of a POST stand in its body, as a JSON object", name))
		case !slices.Contains(known, name):
			return proto.ProblemInvalidParameter.With(fmt.Sprintf("%.60q is not a parameter of this call", name))
		case len(values) > 1:
			return proto.ProblemInvalidParameter.With(fmt.Sprintf("%s is given %d times", name, len(values)))
		}
	}
	return nil
}

// body reads the body, which must be the one that was signed. free gives back the
// place of a large one.
func (s *Service) body(w http.ResponseWriter, r *http.Request, c *appCall) (b []byte, free func(), err error) {
	free = func() {}
	body, err := httpx.NewBody(w, r, s.current.Load().MaxRequestBytes)
	for large := false; err == nil && !body.Ended(); err = body.More() {
		if !large && len(body.Bytes()) > largeBody {
			large = true
			if free, err = s.largePlace(r.Context(), c.grant.KeyID); err != nil {
				return nil, func() {}, err
			}
		}
	}
	if err != nil {
		return nil, free, err
	}
	if err := pusher.VerifyBody(c.query, body.Bytes()); err != nil {
		s.metrics.authFailures.WithLabelValues(reasonSignature).Inc()
		return nil, free, proto.ProblemUnauthorized.With(err.Error())
	}
	return body.Bytes(), free, nil
}

// askFirst and askNext are how long ingest waits for the first gateway to tell its
// channels, and for each further one, until as many have as each of them knows.
const (
	askFirst = 2 * time.Second
	askNext  = 150 * time.Millisecond
)

// askGateways adds up the subscriptions of channels of an app, by their names.
func (s *Service) askGateways(ctx context.Context, key string, q pusher.ChannelsQuery) (map[string]int, error) {
	wait, cancel := context.WithTimeout(ctx, placeTimeout)
	free, err := s.pages.Wait(wait, key)
	cancel()
	if err != nil {
		return nil, proto.ProblemUnavailable.With("too many requests at once: " + err.Error())
	}
	defer free()
	ask, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	inbox := s.nc.NewRespInbox()
	answers, err := s.nc.SubscribeSync(inbox)
	if err == nil {
		defer func() { _ = answers.Unsubscribe() }() // fails only when the connection is closed
		err = s.nc.PublishRequest(pusher.SubjectChannels, inbox, ask)
	}
	sum := map[string]int{}
	answered, gateways := 0, 0
	for patience := askFirst; err == nil; patience = askNext {
		if answered > 0 && answered == gateways {
			return sum, nil
		}
		var msg *nats.Msg
		msg, err = answers.NextMsg(patience)
		switch {
		case errors.Is(err, nats.ErrTimeout) && patience == askNext, errors.Is(err, nats.ErrNoResponders):
			return sum, nil // every gateway that is left has answered, or there is none
		case err != nil:
			continue
		}
		var a pusher.ChannelsAnswer
		if err = json.Unmarshal(msg.Data, &a); err != nil {
			break
		}
		answered, gateways = answered+1, max(gateways, a.Gateways)
		for name, n := range a.Channels {
			sum[name] += n
		}
		if a.More || q.Names == nil && len(sum) > pusher.MaxListed {
			return nil, proto.ProblemInvalidParameter.With(fmt.Sprintf("more than %d channels have subscribers; "+
				"ask for some of them with filter_by_prefix", pusher.MaxListed))
		}
	}
	return nil, proto.ProblemUnavailable.With("the gateways do not tell now which channels have subscribers: " +
		err.Error())
}

// userCount is an attribute of presence channels.
const userCount = "user_count"

// info reads the parameter info: whether subscription counts are asked for. Attributes in ignored are left out of the
// answer. Errors are problems.
func info(list string, ignored ...string) (counts bool, err error) {
	for _, attribute := range strings.Split(list, ",") {
		switch attribute = strings.TrimSpace(attribute); {
		case attribute == "" || slices.Contains(ignored, attribute):
		case attribute == "subscription_count":
			counts = true
		default:
			return false, proto.ProblemInvalidParameter.With(fmt.Sprintf("info: %.40q is not supported by "+
				"this server; subscription_count is", attribute))
		}
	}
	return counts, nil
}

type attributes struct {
	Occupied          *bool `json:"occupied,omitempty"`
	SubscriptionCount *int  `json:"subscription_count,omitempty"`
}

func attributesOf(n int, counts bool) (a attributes) {
	if counts {
		a.SubscriptionCount = &n
	}
	return a
}

// getChannels is GET /apps/{app}/channels: those that have subscribers.
func (s *Service) getChannels(w http.ResponseWriter, r *http.Request, c *appCall) error {
	counts, err := info(c.query.Get("info"))
	if err != nil {
		return err
	}
	found, err := s.askGateways(r.Context(), c.grant.KeyID, pusher.ChannelsQuery{App: c.app.ID,
		Prefix: c.query.Get("filter_by_prefix")})
	if err != nil {
		return err
	}
	channels := map[string]attributes{}
	for name, n := range found {
		channels[name] = attributesOf(n, counts)
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"channels": channels})
	return nil
}

// getChannel is GET /apps/{app}/channels/{channel}.
func (s *Service) getChannel(w http.ResponseWriter, r *http.Request, c *appCall) error {
	name, err := pathChannel(r)
	if err == nil {
		err = pusher.CheckChannel(name)
	}
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	counts, err := info(c.query.Get("info"))
	if err != nil {
		return err
	}
	found, err := s.askGateways(r.Context(), c.grant.KeyID, pusher.ChannelsQuery{App: c.app.ID, Names: []string{name}})
	if err != nil {
		return err
	}
	occupied := found[name] > 0
	a := attributesOf(found[name], counts)
	a.Occupied = &occupied
	httpx.WriteJSON(w, http.StatusOK, a)
	return nil
}

// noUsers answers what needs presence channels or users.
func (s *Service) noUsers(http.ResponseWriter, *http.Request, *appCall) error {
	return proto.ProblemInvalidParameter.With("presence channels and users are not supported by this server")
}

// triesOfApps is how often ingest tries before it is ready without the apps.
const triesOfApps = 5

// keepApps keeps the apps equal to their bucket, which it makes, until ctx ends.
func (s *Service) keepApps(ctx context.Context) {
	tries := 0
	again := retry.Policy{
		Pause: keysEvery,
		Where: s.nc.IsConnected, // an outage is logged by the connection itself
		Log:   func(err error) { s.log.Warn("the apps cannot be watched yet; trying again", "err", err) },
		Every: func(error) {
			if s.nc.IsConnected() {
				tries++
			}
			s.appsLate.Store(tries >= triesOfApps)
		},
	}
	again.Forever(ctx, s.watchApps)
}

// watchApps opens the bucket, or makes it, and follows it until ctx ends or the watch breaks.
func (s *Service) watchApps(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, keysTimeout)
	store, err := keystore.MakeApps(ask, s.js, s.cfg.Replicas)
	cancel()
	if err != nil {
		return err
	}
	return store.Remaking(s.js, s.cfg.Replicas).Watch(ctx, &s.apps, s.log, func() { s.appsLoaded.Store(true) },
		func(string) {})
}
