package main

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// program is what somebody types who wants this binary again: herald where the shell
// finds it by that name, else what was typed.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return "herald"
	}
	if found, err := exec.LookPath("herald"); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil && found == self {
			return "herald"
		}
	}
	typed := os.Args[0]
	switch {
	case strings.Contains(filepath.ToSlash(self), "/go-build"): // of go run, which removes it
		return "go run ./services/allinone"
	case strings.Contains(typed, " "):
		return `"` + typed + `"`
	}
	return typed
}

// again is how somebody types a command that works on the data folder of cfg, from where
// Herald was started.
func again(cfg Config) func(words string) string {
	with := ""
	switch {
	case cfg.NATS.URL != "" || cfg.Data == defaultConfig().Data: // -nats is a secret
	case strings.ContainsAny(cfg.Data, " '()&;$"):
		with = ` -data "` + cfg.Data + `"`
	default:
		with = " -data " + cfg.Data
	}
	return func(words string) string { return program() + " " + words + with }
}

// greeting is what a person is told when Herald is ready.
type greeting struct {
	cfg                      Config
	addr                     net.Addr // where it listens
	firstKey                 string   // the API key that this start made; empty: none
	keyFile                  string   // of HERALD_API_KEY_FILE
	keys                     []string // names of the stored keys
	firstUser, firstPassword string   // of the console, that this start made; empty: none
	envKey                   string   // what the key of HERALD_API_KEY is where it is a stored one; empty: it is none
}

// write tells a person what runs, where, and what to type first.
func (g *greeting) write(w io.Writer) {
	scheme := g.scheme()
	at, options := g.reach(scheme)
	var b strings.Builder
	fmt.Fprintf(&b, "\nHerald %s is ready.\n\n", telemetry.BuildVersion())
	fmt.Fprintf(&b, "  Page:       %s://%s/\n", scheme, at)
	fmt.Fprintf(&b, "  WebSocket:  %s://%s/ws\n", strings.Replace(scheme, "http", "ws", 1), at)
	fmt.Fprintf(&b, "  Network:    %s\n", g.network(scheme))
	fmt.Fprintf(&b, "  Data:       %s\n", g.cfg.Data)
	key := "$HERALD_API_KEY"
	switch {
	case g.firstKey != "":
		key = g.firstKey
		fmt.Fprintf(&b, "  API key:    %s\n", key)
		fmt.Fprint(&b, "              Keep it: it is shown this once, Herald stores only its digest.\n")
		fmt.Fprintf(&b, "              It may do everything; make narrower ones with: %s\n", g.again("keys add NAME"))
	case g.cfg.Ingest.APIKey != "":
		in := "HERALD_API_KEY"
		if g.keyFile != "" {
			in, key = g.keyFile, fmt.Sprintf("$(cat '%s')", g.keyFile)
		}
		fmt.Fprintf(&b, "  API key:    the one in %s; %s\n", in, cmp.Or(g.envKey, "its messages have the sender env"))
	case len(g.keys) == 0:
		fmt.Fprintf(&b, "  API keys:   none that is valid; make one: %s\n", g.again("keys add NAME"))
	default:
		fmt.Fprintf(&b,
			"  API keys:   %s: each was shown when it was made; a lost one is replaced by: %s\n",
			strings.Join(g.keys, ", "), g.again("keys rotate NAME"))
	}
	g.console(&b, scheme, at)
	with := ""
	if g.firstKey == "" && g.keyFile == "" {
		with = ", where HERALD_API_KEY is set to that key"
		if g.cfg.Ingest.APIKey == "" {
			with = ", where HERALD_API_KEY is set to one of these keys"
		}
	}
	fmt.Fprintf(&b, "\nOpen the page, then send it something%s:\n\n", with)
	fmt.Fprintf(&b, "  curl %s-H \"X-API-KEY: %s\" -d 'Hello, browser' %s://%s/v1/channels/%s\n\n", options, key,
		scheme, at, proto.Broadcast)
	_, _ = io.WriteString(w, b.String()) // a closed terminal does not stop the service
}

func (g *greeting) again(words string) string { return again(g.cfg)(words) }

// scheme is that of Herald's URLs.
func (g *greeting) scheme() string {
	if g.cfg.Gateway.CertFile != "" {
		return "https"
	}
	return "http"
}

// console says where the console is, and who may log in there.
func (g *greeting) console(b *strings.Builder, scheme, at string) {
	switch g.cfg.Admin.Console {
	case admin.Off:
		return
	case admin.Loopback:
		if _, port, err := net.SplitHostPort(httpx.Reach(g.addr.String())); err == nil && everywhere(g.addr) {
			at = net.JoinHostPort("localhost", port)
		}
		fmt.Fprintf(b, "  Console:    %s://%s/admin/ from this machine; -console on opens it for others\n", scheme, at)
	default:
		fmt.Fprintf(b, "  Console:    %s://%s/admin/\n", scheme, at)
	}
	if g.firstPassword != "" {
		fmt.Fprintf(b, "              user %s, password %s\n", g.firstUser, g.firstPassword)
		fmt.Fprintf(b, "              Keep it: it is shown this once. A lost one is replaced by: %s\n",
			g.again("users reset "+g.firstUser))
	}
}

// announcement is the first user of the console and its password, on the way to
// the greeting, or, where that was printed before, to the terminal. Safe for
// concurrent use.
type announcement struct {
	out   io.Writer
	again func(words string) string // again of the settings

	mu             sync.Mutex
	user, password string // guarded by mu
	greeted        bool   // guarded by mu
}

// announce is called by the console, with the first user that it has made.
func (a *announcement) announce(user, password string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.greeted {
		fmt.Fprintf(a.out, "\n  Console:    user %s, password %s\n              Keep it: it is shown this once. "+
			"A lost one is replaced by: %s\n", user, password, a.again("users reset "+user))
		return
	}
	a.user, a.password = user, password
}

// greet returns the first user for the greeting, empty where the console has not made one yet; announce then
// prints it by itself. Called once.
func (a *announcement) greet() (user, password string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.greeted = true
	return a.user, a.password
}

// reach is host and port for a program on this machine, and what curl needs
// beside them: with a certificate, the name for which it was made.
func (g *greeting) reach(scheme string) (at, curl string) {
	address := httpx.Reach(g.addr.String())
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return g.addr.String(), ""
	}
	if everywhere(g.addr) {
		at = net.JoinHostPort("localhost", port)
	} else {
		at = address
	}
	if scheme == "http" {
		return at, ""
	}
	name := certifiedName(g.cfg.Gateway.CertFile, "localhost", host)
	if name == "" {
		return at, "--insecure "
	}
	curl = fmt.Sprintf("--cacert '%s' ", g.cfg.Gateway.CertFile)
	if name != "localhost" && name != host {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		curl += fmt.Sprintf("--resolve %s:%s:%s ", name, port, host)
	}
	return net.JoinHostPort(name, port), curl
}

// certifiedName is a name for which the certificate was made, the preferred
// ones first; empty: none that a URL can have.
func certifiedName(certFile string, preferred ...string) string {
	b, err := os.ReadFile(certFile)
	if err != nil {
		return ""
	}
	block, rest := pem.Decode(b)
	for block != nil && block.Type != "CERTIFICATE" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	for _, name := range preferred {
		if leaf.VerifyHostname(name) == nil {
			return name
		}
	}
	if len(leaf.DNSNames) == 0 {
		return leaf.Subject.CommonName // curl takes it where there is no other name
	}
	name := leaf.DNSNames[0]
	if domain, mask := strings.CutPrefix(name, "*."); mask {
		return "herald." + domain
	}
	return name
}

// network says who can reach the port.
func (g *greeting) network(scheme string) string {
	_, port, _ := net.SplitHostPort(g.addr.String()) // it is an address that was listened on
	if !everywhere(g.addr) {
		if ip, err := netip.ParseAddrPort(g.addr.String()); err == nil && ip.Addr().IsLoopback() {
			return "this machine only"
		}
		return "who can reach " + g.addr.String()
	}
	text := "all interfaces"
	if more := otherAddresses(); len(more) > 0 {
		text += ", such as " + scheme + "://" + net.JoinHostPort(more[0], port) + "/"
	}
	return text + "; -listen localhost:" + port + " keeps it to this machine"
}

// everywhere reports whether a listener accepts connections on all interfaces.
func everywhere(addr net.Addr) bool {
	ip, err := netip.ParseAddrPort(addr.String())
	return err == nil && ip.Addr().IsUnspecified()
}

// otherAddresses are this machine's for others, those of IPv4 first.
func otherAddresses() (found []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var six []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			found = append(found, n.IP.String())
		default:
			six = append(six, n.IP.String())
		}
	}
	return append(found, six...)
}
