package admin

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
)

// OIDC is the login by OpenID Connect. The zero value is none.
type OIDC struct {
	Issuer, ClientID, ClientSecret string
	Name                           string   // what the button says
	RoleClaim                      string   // of the ID token or the user info
	Roles                          []string // "VALUE=ROLE"; VALUE "*" is everybody
	Scopes                         []string
	URL                            string // of the console, as browsers have it; empty: as the request says
}

func (o *OIDC) settings() []config.Setting {
	return []config.Setting{
		{Flag: "console-url", Env: "HERALD_CONSOLE_URL",
			Help: "URL of the console as browsers have it, such as https://push.example.com/admin/; " +
				"needed for OpenID Connect where a proxy changes host or path", Into: &o.URL},
		{Flag: "oidc-issuer", Env: "HERALD_OIDC_ISSUER",
			Help: "URL of the OpenID Connect provider for logins to the console; empty: passwords only",
			Into: &o.Issuer},
		{Flag: "oidc-client-id", Env: "HERALD_OIDC_CLIENT_ID", Help: "id under which the provider knows the console",
			Into: &o.ClientID},
		{Env: "HERALD_OIDC_CLIENT_SECRET",
			Help: "the console's secret at the provider; without it the provider must take a public client (PKCE is " +
				"always used)", Secret: true, Into: &o.ClientSecret},
		{Flag: "oidc-name", Env: "HERALD_OIDC_NAME", Help: "what the button of the login says", NotEmpty: true,
			Into: &o.Name},
		{Flag: "oidc-scopes", Env: "HERALD_OIDC_SCOPES",
			Help: "scopes that are asked for, comma-separated; some providers want groups, too", Into: &o.Scopes},
		{Flag: "oidc-role-claim", Env: "HERALD_OIDC_ROLE_CLAIM",
			Help: "claim with a user's groups or roles; a dot leads into an object: realm_access.roles",
			Into: &o.RoleClaim},
		{Flag: "oidc-roles", Env: "HERALD_OIDC_ROLES",
			Help: "who gets which role, comma-separated: VALUE=ROLE, such as " +
				"herald-admins=admin,ops=operator,*=viewer; the highest counts, and who has none cannot log in",
			Into: &o.Roles},
	}
}

// textsAt are the texts of a claim: a string, or an array of them. A dot in the
// name leads into an object: realm_access.roles. A claim that has the whole name
// comes first.
func textsAt(claims map[string]any, name string) (texts []string) {
	v, ok := claims[name]
	if !ok {
		first, rest, dotted := strings.Cut(name, ".")
		if inner, ok := claims[first].(map[string]any); dotted && ok {
			return textsAt(inner, rest)
		}
		return nil
	}
	switch v := v.(type) {
	case string:
		texts = append(texts, v)
	case []any:
		for _, item := range v {
			if text, ok := item.(string); ok {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// roleOf is the highest role that the claims give; empty: none.
func (o *OIDC) roleOf(claims map[string]any) (best users.Role) {
	has := textsAt(claims, o.RoleClaim)
	for _, pair := range o.Roles {
		value, text, _ := cutLast(pair)
		role := users.Role(text)
		if (value == "*" || slices.Contains(has, value)) && role.Includes(users.Viewer) && !best.Includes(role) {
			best = role
		}
	}
	return best
}

// validate reports every fault, one sentence a line.
func (o *OIDC) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		fault(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" ||
			u.Fragment != "" || u.User != nil,
			"console-url: %q; want the URL of the console as browsers have it, such as https://push.example.com/admin/",
			o.URL)
	}
	if o.Issuer == "" {
		fault(o.ClientID != "" || len(o.Roles) > 0 || o.ClientSecret != "",
			"oidc-issuer: it is empty, while other settings of OpenID Connect are set; want the provider's "+
				"URL, such as https://login.example.com")
		return errors.Join(faults...)
	}
	u, err := url.Parse(o.Issuer)
	fault(err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && httpx.LocalHost(u.Host)),
		"oidc-issuer: %q; want the provider's URL, with https: whoever is on the way could let anybody in", o.Issuer)
	fault(o.ClientID == "", "oidc-client-id: it is empty; want the id under which the provider knows the console")
	fault(o.RoleClaim == "",
		"oidc-role-claim: it is empty; want the claim that has a user's groups or roles, such as groups")
	fault(!slices.Contains(o.Scopes, oidc.ScopeOpenID), "oidc-scopes: %s; openid must be among them",
		strings.Join(o.Scopes, ","))
	fault(len(o.Roles) == 0,
		"oidc-roles: it is empty, so that nobody could log in; want who gets which role, such as "+
			"herald-admins=admin,*=viewer")
	for _, pair := range o.Roles {
		value, role, ok := cutLast(pair)
		_, err := users.ParseRole(role)
		fault(!ok || value == "" || err != nil,
			"oidc-roles: %q; want VALUE=ROLE, where the role is viewer, operator or admin", pair)
	}
	return errors.Join(faults...)
}

func cutLast(pair string) (before, after string, ok bool) {
	i := strings.LastIndex(pair, "=")
	if i < 0 {
		return pair, "", false
	}
	return pair[:i], pair[i+1:], true
}
