package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// examineServices looks at a deployment in parts: NATS, the processes behind each
// operators' address, however many a name has, and the way in.
func (p *patient) examineServices(ctx context.Context, services, way string) error {
	p.fine("settings are readable; looking at %s", services)
	p.broker(ctx)
	client := &http.Client{Timeout: 10 * time.Second}
	for address := range strings.SplitSeq(services, ",") {
		at, err := url.Parse(strings.TrimSpace(address))
		if err != nil || at.Host == "" || at.Port() == "" {
			p.wrong("Correct -services.", "%q is no address such as http://gateway:9090", address)
			continue
		}
		ips, err := (&net.Resolver{}).LookupHost(ctx, at.Hostname())
		if err != nil {
			p.wrong("Is it running, and has it that name in this network?", "%s has no address, so none runs: %v",
				at.Hostname(), err)
			continue
		}
		for _, ip := range ips {
			one := *at
			one.Host, one.Path = net.JoinHostPort(ip, at.Port()), "/readyz"
			p.service(ctx, client, at.Hostname()+" "+ip, one.String())
		}
	}
	if way != "" {
		status, _, err := read(ctx, client, strings.TrimSuffix(way, "/")+"/healthz")
		switch {
		case err != nil:
			p.wrong("Is the balancer running?", "%s: %v", way, err)
		case status != http.StatusOK:
			p.wrong("It has nobody to send clients or publishers to.", "%s answers %d", way, status)
		default:
			p.fine("%s lets clients and publishers in; herald doctor -url looks closer", way)
		}
	}
	if p.ill > 0 {
		return fmt.Errorf("things that are wrong: %d", p.ill)
	}
	return nil
}

// service asks one process whether it is ready, and why not.
func (p *patient) service(ctx context.Context, client *http.Client, name, address string) {
	status, body, err := read(ctx, client, address)
	var state struct{ Reasons, Warnings []string }
	switch {
	case err != nil:
		p.wrong("Look at its log.", "%s does not answer: %v", name, err)
	case json.Unmarshal(body, &state) != nil:
		p.wrong("Correct -services: the port is that of -ops-listen.", "%s: what answers at %s is not Herald", name,
			address)
	case status != http.StatusOK:
		p.wrong("The reasons are its own; what concerns NATS is above.", "%s is not ready: %s", name,
			onOneLine(strings.Join(state.Reasons, "; ")))
	case len(state.Warnings) > 0:
		p.wrong("It serves meanwhile.", "%s is ready, but %s", name, onOneLine(strings.Join(state.Warnings, "; ")))
	default:
		p.fine("%s is ready", name)
	}
}

// read is a GET; the body up to 64 KiB.
func read(ctx context.Context, client *http.Client, address string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, body, err
}
