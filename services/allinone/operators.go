package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natsd"
)

// operatorsFile says in the data folder where the operators' port of the Herald
// that runs on it is: the default gives way where it is taken.
func operatorsFile(data string) string { return filepath.Join(data, "ops.txt") }

// noteOperators writes the file. forget removes it. Where there is no room for
// it, Herald starts without, and -health and doctor look at the default port.
func noteOperators(data string, operators *httpx.Server, log *slog.Logger) (forget func(), err error) {
	path := operatorsFile(data)
	forget = func() { _ = os.Remove(path) } // one that stays names a port where nobody answers
	if err := os.WriteFile(path, []byte(addrOf(operators)+"\n"), 0o600); err != nil {
		forget() // it is half a file
		if !natsd.Passes(err) {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		log.Warn("where the operators' port is cannot be written down; -health and doctor look at -ops-listen", "err",
			err)
	}
	return forget, nil
}

// operatorsAddress is where the Herald that runs with these settings tells its
// reasons; empty: nowhere.
func (c *Config) operatorsAddress() string {
	b, err := os.ReadFile(operatorsFile(c.Data))
	if err != nil {
		return c.Ops.Listen
	}
	if addr := strings.TrimSpace(string(b)); addr != nowhere {
		return addr
	}
	return ""
}

const nowhere = "none"

// addrOf is where a server listens that may not be there.
func addrOf(s *httpx.Server) string {
	if s == nil {
		return nowhere
	}
	return s.Addr().String()
}
