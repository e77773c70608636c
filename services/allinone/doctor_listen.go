package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/herald-push/herald/services/internal/httpx"
)

func (p *patient) certificate() {
	cert, key := p.cfg.Gateway.CertFile, p.cfg.Gateway.KeyFile
	if cert == "" {
		p.fine("HTTP without a certificate; for HTTPS give -tls-cert and -tls-key, or set http to https in %s",
			defaultFile)
		return
	}
	for _, path := range []string{cert, key} {
		if _, err := os.ReadFile(path); err != nil {
			p.wrong("Correct the path (it counts from the folder in which herald starts), or let this user "+
				"read the file.", "certificate: %v", err)
			return
		}
	}
	pair, err := httpx.LoadKeyPair(cert, key)
	if err != nil {
		p.wrong("Both files are PEM, and the key must be the certificate's own.", "certificate %s with key %s: %v",
			cert, key, err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	switch {
	case err != nil:
		p.wrong("Make a new one.", "certificate %s: %v", cert, err)
	case time.Now().After(leaf.NotAfter):
		p.wrong("Renew it; a running Herald takes the new files by itself.", "certificate %s ended on %s", cert,
			leaf.NotAfter.Format(time.DateOnly))
	case time.Now().Before(leaf.NotBefore):
		p.wrong("Look at this machine's clock.", "certificate %s begins on %s", cert,
			leaf.NotBefore.Format(time.DateOnly))
	default:
		p.fine("certificate %s is good until %s", cert, leaf.NotAfter.Format(time.DateOnly))
	}
}

// portWithin is how long what has the port may take to answer: many times what a Herald on a busy machine needs.
const portWithin = 10 * time.Second

func (p *patient) port(ctx context.Context) {
	l, err := net.Listen("tcp", p.cfg.Listen)
	if err == nil {
		_ = l.Close() // it was only a try
		if inUse(p.cfg.Data) {
			where := ""
			if page := notedPage(p.cfg.Data); page != "" {
				where = ": " + page
			}
			p.warn("Name its address with -listen, as it was named there, and its port is looked at, too.",
				"nothing listens on %s; the Herald that runs on the data folder %s listens elsewhere%s", p.cfg.Listen,
				p.cfg.Data, where)
			return
		}
		p.fine("port %s is free: no Herald runs there now", p.cfg.Listen)
		return
	}
	if !httpx.PortTaken(err) {
		p.wrong("Choose another address with -listen; ports below 1024 need privileges.", "port: %v", err)
		return
	}
	scheme := "http"
	if p.cfg.Gateway.CertFile != "" {
		scheme = "https"
	}
	ctx, cancel := context.WithTimeout(ctx, portWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/readyz", nil)
	if err != nil {
		p.wrong("Choose another address with -listen.", "port: %v", err)
		return
	}
	// The certificate is for the public name, and was looked at above.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	httpx.DialReach(transport, p.cfg.Listen)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		p.wrong("Look at its log: it hangs, or the machine does more than it can.",
			"port %s is taken, and what has it gives no answer within %s", p.cfg.Listen, portWithin)
		return
	}
	if err != nil {
		p.wrong("Stop the program that has the port, or choose another one with -listen or HERALD_LISTEN, such as "+
			"localhost:5001.", "port %s is taken, and what has it is not Herald: %v", p.cfg.Listen, err)
		return
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if ops := p.cfg.operatorsAddress(); ops != "" { // where the reasons are
		if status, reasons, err := httpx.Readiness(ctx, ops, ""); err == nil && status == resp.StatusCode {
			body = []byte(reasons)
		}
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		p.running = true
		var state struct{ Warnings []string }
		if json.Unmarshal(body, &state) != nil || len(state.Warnings) == 0 {
			p.fine("Herald runs on %s and is ready", p.cfg.Listen)
		}
		for _, warning := range state.Warnings {
			p.wrong("Publishing and delivering go on meanwhile; Herald tries again by itself.",
				"Herald runs on %s and is ready, but %s", p.cfg.Listen, onOneLine(warning))
		}
	case resp.StatusCode == http.StatusServiceUnavailable:
		p.running = true
		p.wrong("The reasons are in the answer; what concerns NATS is looked at below.",
			"Herald runs on %s and is not ready: %s", p.cfg.Listen, body)
	default:
		p.wrong("Stop the program that has the port, or choose another one with -listen or HERALD_LISTEN, such as "+
			"localhost:5001.", "port %s is taken by something that is not Herald: %s", p.cfg.Listen, resp.Status)
	}
}

// sameFolder finds out whether the Herald that answers on the port is the one of the data folder. Of another one it
// must not be said what that folder has.
func (p *patient) sameFolder() {
	if !p.running || p.cfg.NATS.URL != "" || inUse(p.cfg.Data) {
		return // with a NATS elsewhere the folder has nothing but the log
	}
	p.running = false
	p.wrong("Name that one's folder with -data, or give this one another port with -listen.",
		"the Herald that answers on %s is another one: it does not run on the data folder %s", p.cfg.Listen, p.cfg.Data)
}
