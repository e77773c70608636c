package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/proto"
	"golang.org/x/time/rate"
)

// VerifierConfig names the keys that clients' tokens are signed with. Both
// may be set; with neither no token is valid.
type VerifierConfig struct {
	// Secret is the shared HS256 secret.
	Secret string
	// JWKS is the path or the http(s) URL of a JSON Web Key Set (RFC 7517)
	// with public keys for RS256, ES256 or EdDSA.
	JWKS string
}

// Verifier checks tokens. Safe for concurrent use.
type Verifier struct {
	secret []byte
	keys   keyfunc.Keyfunc // nil without JWKS
	hmac   *jwt.Parser
	public *jwt.Parser
}

// MaxTokenBytes bounds a token; it must fit into a header or URL.
const MaxTokenBytes = 8 << 10

// Leeway is how far clocks may differ: a token holds for as long after its exp.
const Leeway = 5 * time.Second

// NewVerifier loads the keys. A JWKS URL is fetched again every hour, and at
// most once a minute when a token names a key that is not known yet; the
// goroutine that does so ends with ctx. An unreachable URL is an error here:
// a gateway that can check no token should say so before it takes clients.
func NewVerifier(ctx context.Context, cfg VerifierConfig, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{}
	options := []jwt.ParserOption{jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithStrictDecoding()}
	if cfg.Secret != "" {
		if err := CheckSecret("HERALD_JWT_SECRET", cfg.Secret); err != nil {
			return nil, err
		}
		v.secret = []byte(cfg.Secret)
		v.hmac = jwt.NewParser(append(options, jwt.WithValidMethods([]string{"HS256"}))...)
	}
	if cfg.JWKS != "" {
		var err error
		if v.keys, err = loadJWKS(ctx, cfg.JWKS, log); err != nil {
			return nil, fmt.Errorf("HERALD_JWKS: %w", err)
		}
		v.public = jwt.NewParser(append(options, jwt.WithValidMethods([]string{"RS256", "ES256", "EdDSA"}))...)
	}
	return v, nil
}

func loadJWKS(ctx context.Context, from string, log *slog.Logger) (keyfunc.Keyfunc, error) {
	if u, err := url.Parse(from); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		mayFail := false // keyfunc's own default would start without keys
		ctx, cancel := context.WithCancel(ctx)
		keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{from}, keyfunc.Override{
			HTTPTimeout:               10 * time.Second,
			NoErrorReturnFirstHTTPReq: &mayFail,
			RefreshInterval:           time.Hour,
			RefreshUnknownKID:         rate.NewLimiter(rate.Every(time.Minute), 1),
			// Bounds the wait for the limiter, and the fetch that follows.
			RateLimitWaitMax: 5 * time.Second,
			RefreshErrorHandlerFunc: func(u string) func(context.Context, error) {
				return func(_ context.Context, err error) {
					log.Warn("JWKS could not be refreshed; the keys known so far stay", "url", u, "err", err)
				}
			},
		})
		if err == nil {
			err = someKey(ctx, keys, from)
		}
		if err != nil {
			cancel() // ends the goroutine that would have refreshed them
			return nil, err
		}
		context.AfterFunc(ctx, cancel) // with the caller's context, as promised above
		return keys, nil
	}
	b, err := os.ReadFile(strings.TrimPrefix(from, "file://"))
	if err != nil {
		return nil, err
	}
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	for _, k := range set.Keys {
		if k.KTY == jwkset.KtyOct {
			return nil, fmt.Errorf("%s: key %q is a shared secret; a JWKS holds public keys", from, k.KID)
		}
	}
	keys, err := keyfunc.NewJWKSetJSON(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return keys, someKey(ctx, keys, from)
}

// someKey refuses a set without keys, which is also what any other JSON
// object reads as.
func someKey(ctx context.Context, keys keyfunc.Keyfunc, from string) error {
	all, err := keys.Storage().KeyReadAll(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if len(all) == 0 {
		return fmt.Errorf("%s has no keys that could be used", from)
	}
	return nil
}

// Enabled reports whether any token can be valid.
func (v *Verifier) Enabled() bool { return v.hmac != nil || v.public != nil }

type claims struct {
	jwt.RegisteredClaims
	Channels []string `json:"channels"`
}

// Verify checks signature, time and claims. Errors wrap ErrToken or
// ErrExpired and are safe to show.
func (v *Verifier) Verify(token string) (*Principal, error) {
	if !v.Enabled() {
		return nil, fmt.Errorf("%w: this server has no token keys (HERALD_JWT_SECRET or HERALD_JWKS)", ErrToken)
	}
	if len(token) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrToken, len(token), MaxTokenBytes)
	}
	if strings.ContainsAny(token, "\r\n") { // Go's base64 skips them; RFC 7515 section 2 has none
		return nil, fmt.Errorf("%w: it is malformed", ErrToken)
	}
	var c claims
	var err error
	switch unverified, _, perr := jwt.NewParser().ParseUnverified(token, &claims{}); {
	case perr != nil:
		return nil, fmt.Errorf("%w: it is malformed", ErrToken)
	// The algorithm decides which kind of key may check it, and the parser of
	// that kind takes no other: an HS256 token signed with a public key as the
	// "secret" (RFC 8725 section 2.1) finds no parser that would take it.
	case unverified.Method.Alg() == "HS256" && v.hmac != nil:
		_, err = v.hmac.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return v.secret, nil })
	case unverified.Method.Alg() != "HS256" && v.public != nil:
		_, err = v.public.ParseWithClaims(token, &c, v.keys.Keyfunc)
	default:
		return nil, fmt.Errorf("%w: its algorithm is not accepted here", ErrToken)
	}
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, fmt.Errorf("the token has %w", ErrExpired)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return nil, fmt.Errorf("%w: it is not valid yet", ErrToken)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return nil, fmt.Errorf("%w: the claim exp is missing", ErrToken)
	case err != nil:
		return nil, fmt.Errorf("%w: its signature or a claim is wrong", ErrToken)
	case c.Subject == "":
		return nil, fmt.Errorf("%w: the claim sub is missing", ErrToken)
	case c.Channels == nil:
		return nil, fmt.Errorf("%w: the claim channels is missing", ErrToken)
	}
	for _, p := range c.Channels {
		if err := proto.CheckPattern(p); err != nil {
			return nil, fmt.Errorf("%w: claim channels: %w", ErrToken, err)
		}
	}
	return &Principal{Name: c.Subject, Channels: c.Channels, Expires: c.ExpiresAt.Time}, nil
}

// Sign makes an HS256 token for a principal. Backends sign their own with any
// JWT library; this is for trying things.
func Sign(secret string, p Principal) (string, error) {
	if err := CheckSecret("HERALD_JWT_SECRET", secret); err != nil {
		return "", err
	}
	c := claims{RegisteredClaims: jwt.RegisteredClaims{Subject: p.Name, ExpiresAt: jwt.NewNumericDate(p.Expires)}, Channels: p.Channels}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}
