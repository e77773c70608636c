package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/herald-push/herald/services/internal/config"
	"golang.org/x/term"
)

// keepOutput keeps what Herald says where nobody sees it: the log in herald.log,
// and the greeting, which has what is shown once, in greeting.txt. On a terminal
// neither is written.
func keepOutput(c *call, data string) (closeFiles func(), err error) {
	if f, ok := c.std.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return func() {}, nil
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", config.Denied(filepath.Dir(data), err))
	}
	name := filepath.Join(data, "herald.log")
	if info, err := os.Stat(name); err == nil && info.Size() > maxKeptLog {
		_ = os.Rename(name, name+".1") // else the log goes on growing
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the log: %w", config.Denied(data, err))
	}
	c.std.err = everyWriter{file, c.std.err}
	c.std.out = &firstGreeting{out: c.std.out, file: filepath.Join(data, "greeting.txt")}
	return func() { _ = file.Close() }, nil
}

// everyWriter writes to each, whatever became of the others: a full disk accepts nothing,
// nor do the streams of a windowed build or a service.
type everyWriter []io.Writer

func (all everyWriter) Write(b []byte) (int, error) {
	for _, w := range all {
		_, _ = w.Write(b)
	}
	return len(b), nil
}

// maxKeptLog is how long herald.log may have become before a start begins another.
const maxKeptLog = 8 << 20

// firstGreeting passes a greeting on, and keeps one that has a secret.
type firstGreeting struct {
	out  io.Writer
	file string
}

func (g *firstGreeting) Write(b []byte) (int, error) {
	_, _ = g.out.Write(b) // it may be nowhere
	if !strings.Contains(string(b), "it is shown this once") {
		return len(b), nil
	}
	return len(b), os.WriteFile(g.file, b, 0o600)
}
