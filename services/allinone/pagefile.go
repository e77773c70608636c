package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/herald-push/herald/services/admin"
)

// pageFile says in the data folder where the page of the Herald that runs on it is: a
// second start may have other settings.
func pageFile(data string) string { return filepath.Join(data, "page.txt") }

// notePage writes the file. Where it cannot be written down, a second start on the data
// folder finds this one only at the port of its own settings.
func notePage(data, page string, log *slog.Logger) {
	if err := os.WriteFile(pageFile(data), []byte(page+"\n"), 0o600); err != nil {
		forgetPage(data) // it may be half a file
		log.Warn("where the page is cannot be written down", "err", err)
	}
}

// forgetPage removes the file: one that stays names a port where nobody answers.
func forgetPage(data string) { _ = os.Remove(pageFile(data)) }

// notedPage is the page of the Herald that runs on the data folder; empty: unknown.
func notedPage(data string) string {
	b, err := os.ReadFile(pageFile(data))
	page := strings.TrimSpace(string(b))
	if err != nil || !strings.HasPrefix(page, "http://") && !strings.HasPrefix(page, "https://") || !inUse(data) {
		return ""
	}
	return page
}

// running is the page of the Herald that has the port or the data folder of these
// settings; empty: there is none, or it does not serve yet.
func running(ctx context.Context, cfg Config) string {
	if page := runningPage(ctx, cfg); page != "" {
		return page
	}
	return notedPage(cfg.Data)
}

// dataInUse is the error of a start on a data folder that another Herald has.
func dataInUse(data string) error {
	at := ""
	if page := notedPage(data); page != "" {
		at = " at " + page
	}
	return fmt.Errorf("data folder %s: %w%s; stop that one, or choose another folder with -data", data,
		errDataInUse, at)
}

// movedPage writes down where the page is after the console has changed it.
func movedPage(cfg Config, now admin.Listen, addr net.Addr, log *slog.Logger) {
	if cfg.Gateway.CertFile = ""; now.Protocol == "https" {
		cfg.Gateway.CertFile = now.CertPath
	}
	notePage(cfg.Data, (&greeting{cfg: cfg, addr: addr}).page(), log)
}
