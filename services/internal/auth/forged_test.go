package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/services/internal/auth"
)

// raw puts a token together without any library's opinion.
func raw(header, claims string, signature []byte) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(claims)) + "." + enc(signature)
}

// RFC 8725: what attackers try with the header.
func TestForgedTokens(t *testing.T) {
	set := signers()
	public, err := x509.MarshalPKIXPublicKey(set[0].key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	file := jwksFile(t, keySet(t, set...))
	onlyPublic := verifier(t, auth.VerifierConfig{JWKS: file})
	onlySecret := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	both := verifier(t, auth.VerifierConfig{JWKS: file, Secret: jwtSecret})
	claims := `{"sub":"user-4711","exp":9999999999,"channels":[">"]}`
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := set[0].sign(t, good())
	parts := strings.Split(signed, ".")
	kid := func(token *jwt.Token, kid any) *jwt.Token { token.Header["kid"] = kid; return token }
	mustSign := func(token *jwt.Token, key any) string {
		t.Helper()
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		name  string
		v     *auth.Verifier
		token string
		text  string
	}{
		{"public key in PEM as HMAC secret", onlyPublic, hs256(t, good(), publicPEM), notAccepted},
		{"public key in PEM as HMAC secret, beside a secret", both, hs256(t, good(), publicPEM), wrong},
		{"public key in DER as HMAC secret", both, hs256(t, good(), public), wrong},
		{"modulus as HMAC secret", both, hs256(t, good(), set[0].key.Public().(*rsa.PublicKey).N.Bytes()), wrong},
		{"HS256 naming a public key", both, mustSign(kid(jwt.NewWithClaims(jwt.SigningMethodHS256, good()), "rsa"),
			publicPEM), wrong},
		{"HS384 with the right secret", both, mustSign(jwt.NewWithClaims(jwt.SigningMethodHS384, good()),
			[]byte(jwtSecret)),
			wrong},
		{"HS512 with the right secret", onlySecret, mustSign(jwt.NewWithClaims(jwt.SigningMethodHS512, good()),
			[]byte(jwtSecret)), notAccepted},
		{"none", onlySecret, raw(`{"alg":"none"}`, claims, nil), notAccepted},
		{"none, with public keys", both, raw(`{"alg":"none"}`, claims, nil), wrong},
		{"none, signed by the library", both, mustSign(jwt.NewWithClaims(jwt.SigningMethodNone, good()),
			jwt.UnsafeAllowNoneSignatureType), wrong},
		{"None", both, raw(`{"alg":"None"}`, claims, nil), malformed},
		{"no algorithm", both, raw(`{"typ":"JWT"}`, claims, nil), malformed},
		{"algorithm is a number", both, raw(`{"alg":256}`, claims, nil), malformed},
		{"algorithm is null", both, raw(`{"alg":null}`, claims, nil), malformed},
		{"hs256", both, raw(`{"alg":"hs256"}`, claims, nil), malformed},
		{"empty secret", onlySecret, hs256(t, good(), []byte{}), wrong},
		{"another secret", onlySecret, hs256(t, good(), []byte(jwtSecret+"x")), wrong},
		{"another RSA key", onlyPublic, signer{"rsa", "RS256", stranger, jwt.SigningMethodRS256}.sign(t, good()),
			wrong},
		{"another RSA key without kid", onlyPublic, signer{"", "RS256", stranger, jwt.SigningMethodRS256}.sign(t,
			good()),
			wrong},
		{"unknown kid", onlyPublic, signer{"other", "RS256", set[0].key, jwt.SigningMethodRS256}.sign(t, good()),
			wrong},
		{"kid is a number", onlyPublic, mustSign(kid(jwt.NewWithClaims(jwt.SigningMethodRS256, good()), 7), set[0].key),
			wrong},
		{"kid is a path", onlyPublic, signer{"../../etc/passwd", "RS256", set[0].key, jwt.SigningMethodRS256}.sign(t,
			good()),
			wrong},
		{"kid of another key", onlyPublic, signer{"ec", "RS256", set[0].key, jwt.SigningMethodRS256}.sign(t, good()),
			wrong},
		{"RS512 with the right key", onlyPublic, signer{"rsa", "RS512", set[0].key, jwt.SigningMethodRS512}.sign(t,
			good()),
			wrong},
		{"PS256 with the right key", onlyPublic, signer{"rsa", "PS256", set[0].key, jwt.SigningMethodPS256}.sign(t,
			good()),
			wrong},
		{"ES384", onlyPublic, signer{"ec", "ES384", large, jwt.SigningMethodES384}.sign(t, good()), wrong},
		{"crit", both, mustSign(critical(jwt.NewWithClaims(jwt.SigningMethodHS256, good()), []string{"exp"}),
			[]byte(jwtSecret)), crit},
		{"an empty crit", both, mustSign(critical(jwt.NewWithClaims(jwt.SigningMethodHS256, good()), []string{}),
			[]byte(jwtSecret)), crit},
		{"crit with a public key", both,
			mustSign(critical(kid(jwt.NewWithClaims(jwt.SigningMethodRS256, good()), "rsa"),
				[]string{"b64"}), set[0].key), crit},
		{"key inside the header", onlyPublic, embedded(t, stranger), wrong},
		{"public key where only a secret is known", onlySecret, signed, notAccepted},
		{"other claims under the signature", onlyPublic, parts[0] + "." +
			base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + parts[2], wrong},
		{"no signature", onlyPublic, parts[0] + "." + parts[1] + ".", wrong},
		{"two parts", both, parts[0] + "." + parts[1], malformed},
		{"four parts", both, signed + ".x", malformed},
		{"encrypted", both, signed + ".x.y", malformed},
		{"empty", both, "", malformed},
		{"dots", both, "..", malformed},
		{"padding", both, parts[0] + "==." + parts[1] + "." + parts[2], malformed},
		{"claims are null", both, raw(`{"alg":"HS256"}`, "null", nil), wrong},
		{"claims are an array", both, raw(`{"alg":"HS256"}`, "[]", nil), malformed},
		{"header is null", both, raw("null", claims, nil), malformed},
		{"line breaks", both, signed + "\r\n", malformed},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.v, c.token, auth.ErrToken, c.text) })
	}
}

const crit = "the token is not valid: its header has crit, and no extension is known here"

func critical(token *jwt.Token, names []string) *jwt.Token {
	token.Header["crit"] = names
	return token
}

// embedded is a token that brings its own key along (RFC 7515 section 4.1.3).
func embedded(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	var jwks struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(keySet(t, signer{"rsa", "RS256", key, nil}), &jwks); err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, good())
	token.Header["kid"], token.Header["jwk"] = "rsa", jwks.Keys[0]
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignedNullClaims(t *testing.T) {
	token := raw(`{"alg":"HS256"}`, "null", nil)
	text := token[:strings.LastIndexByte(token, '.')]
	signature, err := jwt.SigningMethodHS256.Sign(text, []byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, verifier(t, auth.VerifierConfig{Secret: jwtSecret}),
		text+"."+base64.RawURLEncoding.EncodeToString(signature),
		auth.ErrToken, "the token is not valid: the claim exp is missing")
}

// Nobody without a key makes a token, whatever they write.
func FuzzVerify(f *testing.F) {
	set := signers()
	v := verifier(f, auth.VerifierConfig{JWKS: jwksFile(f, keySet(f, set...)), Secret: jwtSecret})
	claims := `{"sub":"u","exp":9999999999,"channels":[">"]}`
	for _, s := range []string{
		"", "..", "a.b.c", raw(`{"alg":"none"}`, claims, nil), raw(`{"alg":"HS256"}`, claims, []byte("x")),
		raw(`{"alg":"RS256"}`, claims, []byte("x")),
		raw(`{"alg":"ES256","kid":"ec"}`, claims, make([]byte, 64)), raw(`{"alg":"EdDSA","kid":"ed"}`, claims,
			make([]byte, 64)),
		raw(`{"alg":"RS256","kid":"rsa"}`, claims, make([]byte, 256)), raw(`{"alg":"ES256","kid":null}`, "null", nil),
		raw(`null`, `[]`, nil),
		hs256(f, good(), []byte("not the secret at all")), raw(`{"alg":"HS256"}`, `{"exp":1e999}`, nil),
	} {
		f.Add(s)
	}
	for _, s := range set { // good ones for a stranger, with the last byte changed
		token := signer{s.kid, s.alg, s.key, s.method}.sign(f, with(map[string]any{"exp": 1}))
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := v.Verify(token); err == nil {
			t.Errorf("accepted %q as %+v", token, p)
		} else if !errors.Is(err, auth.ErrToken) && !errors.Is(err, auth.ErrExpired) {
			t.Errorf("%q: an error of another kind: %v", token, err)
		}
	})
}
