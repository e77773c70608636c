package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/herald-push/herald/services/internal/httpx"
)

// operatorsFile says in the data folder where the operators' port of the Herald
// that runs on it is: the default gives way where it is taken.
func operatorsFile(data string) string { return filepath.Join(data, "ops.txt") }

// noteOperators writes the file. forget removes it.
func noteOperators(data string, operators *httpx.Server) (forget func(), err error) {
	path := operatorsFile(data)
	if err := os.WriteFile(path, []byte(addrOf(operators)+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil // one that stays names a port where nobody answers
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
