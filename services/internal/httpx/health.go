package httpx

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/config"
)

// Health asks the service that listens at listen (":8080", "[::1]:8080") on
// this machine whether it is ready, and reports why if it is not. It is what
// -health does: the health check of a container that has no shell and no
// curl. certFile is the certificate (PEM) that the service shows; empty: it
// speaks plain HTTP. The reasons come from the operators' port, ops; empty, or
// no answer there: without them.
func Health(ctx context.Context, listen, certFile, ops string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	status, body, err := Readiness(ctx, listen, certFile)
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		return nil
	}
	if ops != "" {
		if same, reasons, err := Readiness(ctx, ops, ""); err == nil && same == status {
			body = reasons
		}
	}
	return fmt.Errorf("%d %s: %s", status, http.StatusText(status), body)
}

// Readiness asks the service that listens at listen, as Health does, and
// returns the answer.
func Readiness(ctx context.Context, listen, certFile string) (status int, body string, err error) {
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return 0, "", fmt.Errorf("listen address %q: %w", listen, err)
	}
	transport, scheme := &http.Transport{DisableKeepAlives: true}, "http"
	DialReach(transport, listen)
	if certFile != "" {
		scheme = "https"
		if transport.TLSClientConfig, err = pinned(certFile); err != nil {
			return 0, "", err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/readyz", nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask for readiness at %s: %w", Reach(listen), err)
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return 0, "", fmt.Errorf("ask for readiness: %w", err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b)), nil
}

// pinned accepts the certificate of the file and no other. Its name, authority
// and dates are not looked at: it is made for the name that clients use, not
// for 127.0.0.1, its authority may be known to them alone, and whether it has
// expired is not what readiness says. The file itself is what the service
// serves, within a second of its renewal.
func pinned(certFile string) (*tls.Config, error) {
	b, err := config.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("HTTPS certificate: %w", err)
	}
	block, rest := pem.Decode(b)
	for block != nil && block.Type != "CERTIFICATE" { // some keep the key in front of it
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, fmt.Errorf("HTTPS certificate: %s has no certificate (PEM)", certFile)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // in favour of the following
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(state.PeerCertificates[0].Raw, block.Bytes) { // a server always has one
				return errors.New("what listens there has another certificate than " + certFile)
			}
			return nil
		},
	}, nil
}
