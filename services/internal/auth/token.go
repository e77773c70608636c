package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/proto"
)

// VerifierConfig names the keys that clients' tokens are signed with. Both
// kinds may be set; with neither no token is valid.
type VerifierConfig struct {
	// Secret holds one or two HS256 secrets with white space between them:
	// while backends change from one to the other, both are valid.
	Secret string
	// SecretFile is the file that Secret came from, read again when it changes;
	// empty: there is none.
	SecretFile string
	// JWKS is the path or the URL of a JSON Web Key Set (RFC 7517) with public
	// keys for RS256, ES256 or EdDSA. A file is read again when it changes.
	JWKS string
	// Audience and Issuer, unless empty, are what the claims aud and iss of a
	// token must name one of. Empty: the claim is not judged.
	Audience, Issuer []string
}

// Verifier checks tokens. Safe for concurrent use.
type Verifier struct {
	cfg    VerifierConfig
	hmac   *secrets // nil without Secret
	public *keySet  // nil without JWKS
}

const (
	// MaxTokenBytes bounds a token; it must fit into a header or URL.
	MaxTokenBytes = 8 << 10
	// Leeway is how far clocks may differ at the end of a token: it holds for as
	// long after its exp.
	Leeway = 5 * time.Second
	// EarlyLeeway is the same for nbf. A backend whose clock is ahead signs
	// tokens that begin in the future; a minute is what RFC 7519 section 4.1.5
	// calls small.
	EarlyLeeway = time.Minute
)

// NewVerifier reads the keys. Settings and files that are wrong are an error.
// A JWKS URL that does not answer is not: it is asked again by Run, and Ready
// says why tokens cannot be checked until then.
func NewVerifier(ctx context.Context, cfg VerifierConfig, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{cfg: cfg}
	var err error
	if cfg.Secret != "" {
		if v.hmac, err = newSecrets(cfg.Secret, cfg.SecretFile, log); err != nil {
			return nil, err
		}
	}
	if cfg.JWKS != "" {
		if v.public, err = newKeySet(ctx, cfg.JWKS, log); err != nil {
			return nil, fmt.Errorf("HERALD_JWKS: %w", err)
		}
	}
	return v, nil
}

// Run fetches a JWKS URL again and again until ctx ends: every ten minutes,
// after a failure sooner, and when a token names a key that is not known yet.
func (v *Verifier) Run(ctx context.Context) {
	if v.public != nil {
		v.public.run(ctx)
	}
}

// Ready is nil once every key that is set up has been read, and else says why
// tokens cannot be checked.
func (v *Verifier) Ready() error {
	if v.public == nil {
		return nil
	}
	return v.public.ready()
}

// Enabled reports whether any token can be valid.
func (v *Verifier) Enabled() bool { return v.hmac != nil || v.public != nil }

// Verify checks signature, time and claims. Errors wrap ErrToken, ErrExpired,
// ErrEarly or ErrKeys, and are safe to show.
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
	unverified, _, err := jwt.NewParser().ParseUnverified(token, &claims{})
	if err != nil {
		return nil, fmt.Errorf("%w: it is malformed", ErrToken)
	}
	// Extensions in crit change what a token means (RFC 7515 section 4.1.11),
	// and no extension is known here.
	if _, critical := unverified.Header["crit"]; critical {
		return nil, fmt.Errorf("%w: its header has crit, and no extension is known here", ErrToken)
	}
	// The algorithm decides which kind of key may check it, and the parser of
	// that kind accepts no other: an HS256 token signed with a public key as the
	// "secret" (RFC 8725 section 2.1) finds no parser that would accept it.
	var c claims
	switch alg := unverified.Method.Alg(); {
	case alg == "HS256" && v.hmac != nil:
		err = verifySignature(token, &c, v.hmac.keyfunc, "HS256")
	case alg != "HS256" && v.public != nil:
		err = verifySignature(token, &c, v.public.keyfunc, "RS256", "ES256", "EdDSA")
	default:
		return nil, fmt.Errorf("%w: its algorithm is not accepted here", ErrToken)
	}
	switch {
	case errors.Is(err, ErrKeys):
		return nil, ErrKeys
	case err != nil:
		return nil, fmt.Errorf("%w: its signature is wrong, or its key is not known", ErrToken)
	}
	return v.judge(c)
}

// verifySignature decodes the claims and judges none of them.
func verifySignature(token string, c *claims, keys jwt.Keyfunc, algorithms ...string) error {
	parser := jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(token, c, keys)
	return err
}

// judge checks the claims that Herald uses, and looks at no other.
func (v *Verifier) judge(c claims) (*Principal, error) {
	exp, err := c.date("exp")
	if err != nil {
		return nil, err
	}
	nbf, err := c.date("nbf")
	if err != nil {
		return nil, err
	}
	sub, err := c.text("sub")
	if err != nil {
		return nil, err
	}
	channels, err := c.texts("channels")
	if err != nil {
		return nil, err
	}
	switch now := time.Now(); {
	case exp.IsZero():
		return nil, fmt.Errorf("%w: the claim exp is missing", ErrToken)
	case now.After(exp.Add(Leeway)):
		return nil, fmt.Errorf("the token has %w", ErrExpired)
	case now.Before(nbf.Add(-EarlyLeeway)):
		return nil, fmt.Errorf("%w: its claim nbf is ahead of this server's clock by more than %s; come back", ErrEarly,
			EarlyLeeway)
	case sub == "":
		return nil, fmt.Errorf("%w: the claim sub is missing", ErrToken)
	case channels == nil:
		return nil, fmt.Errorf("%w: the claim channels is missing", ErrToken)
	}
	for _, p := range channels {
		if err := proto.CheckPattern(p); err != nil {
			return nil, fmt.Errorf("%w: claim channels: %w", ErrToken, err)
		}
	}
	if err := c.names("aud", v.cfg.Audience); err != nil {
		return nil, err
	}
	if err := c.names("iss", v.cfg.Issuer); err != nil {
		return nil, err
	}
	return &Principal{Name: sub, Channels: channels, Expires: exp}, nil
}

// Signing is what Sign puts into a token besides its principal.
type Signing struct {
	Secret           string // as VerifierConfig has it; the first one signs
	Audience, Issuer string // empty: the claim is left out
}

// Sign makes an HS256 token for a principal. Backends sign their own with any
// JWT library; this is for trying things.
func Sign(s Signing, p Principal) (string, error) {
	all, err := TokenSecrets("HERALD_JWT_SECRET", s.Secret)
	if err != nil {
		return "", err
	}
	c := jwt.MapClaims{"sub": p.Name, "exp": p.Expires.Unix(), "channels": p.Channels}
	if s.Audience != "" {
		c["aud"] = s.Audience
	}
	if s.Issuer != "" {
		c["iss"] = s.Issuer
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(all[0]))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}
