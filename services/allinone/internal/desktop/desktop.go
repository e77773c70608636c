// Package desktop is what a program needs on a person's desktop: whether it was
// started there, an icon in the tray, the browser, the clipboard, and the folder
// where programs keep data. It knows nothing of Herald but the name.
//
// The tray needs no C compiler on Linux (D-Bus, StatusNotifierItem) and Windows;
// on macOS it does: a macOS binary that was built without one has none, and says
// so. The build tag headless leaves the tray out, as container images do.
package desktop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ErrNoTray is why no icon is shown.
var ErrNoTray = errors.New("no tray icon")

// Folder is where this system keeps the data of a user's programs, for Herald. The
// error says which variable does not name one.
func Folder() (string, error) {
	variable, below := "HOME", filepath.Join(".local", "share", "herald") // XDG Base Directory Specification
	switch runtime.GOOS {
	case "windows":
		variable, below = "LocalAppData", "Herald"
	case "darwin":
		below = filepath.Join("Library", "Application Support", "Herald")
	default:
		if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "herald"), nil
		}
	}
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, below), nil
	}
	return "", fmt.Errorf("the variable %s is not the path of a folder: set it, or name a folder with -data", variable)
}

// ServiceFolder is where this system keeps the data of services, for Herald.
func ServiceFolder() string {
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(os.Getenv("ProgramData"), "Herald")
	case "darwin":
		return "/Library/Application Support/Herald"
	default:
		return "/var/lib/herald"
	}
}

// Open shows a URL in the browser, or a file in the program for it.
func Open(what string) error {
	switch runtime.GOOS {
	case "windows":
		return launch("", "rundll32", "url.dll,FileProtocolHandler", what)
	case "darwin":
		return launch("", "open", what)
	default:
		return launch("", "xdg-open", what)
	}
}

// Copy puts text into the clipboard.
func Copy(text string) error {
	var err error
	for _, command := range clipboards() {
		if err = launch(text, command[0], command[1:]...); err == nil {
			return nil
		}
	}
	return fmt.Errorf("copy to the clipboard: %w", err)
}

// clipboards are the programs that fill the clipboard from standard input, those
// for this session first.
func clipboards() [][]string {
	switch runtime.GOOS {
	case "windows":
		return [][]string{{"clip"}}
	case "darwin":
		return [][]string{{"pbcopy"}}
	}
	x11 := [][]string{{"xclip", "-selection", "clipboard"}, {"xsel", "--clipboard", "--input"}}
	if os.Getenv("WAYLAND_DISPLAY") == "" {
		return x11
	}
	return append([][]string{{"wl-copy"}}, x11...)
}

// launch starts a program that hands its work on, and returns its error if it ends
// within launchTakes. A program that stays longer does its work itself, such as a
// browser that the starter of browsers waits for: that is no error, and nobody waits
// for it. It is in a session of its own, so that Ctrl-C in Herald's terminal does not
// end it.
func launch(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	detach(cmd)
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the program, which may outlive Herald
	select {
	case err := <-ended:
		return err
	case <-time.After(launchTakes):
		return nil
	}
}

// launchTakes is longer than a program that fails takes to say so.
const launchTakes = 3 * time.Second
