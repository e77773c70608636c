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
)

// ErrNoTray is why no icon is shown.
var ErrNoTray = errors.New("no tray icon")

// Folder is where this system keeps the data of a user's programs, for Herald.
func Folder() (string, error) {
	switch runtime.GOOS {
	case "windows":
		if dir := os.Getenv("LocalAppData"); dir != "" {
			return filepath.Join(dir, "Herald"), nil
		}
		return "", errors.New("the variable LocalAppData, which names the folder of programs' data, is not set; " +
			"name a folder with -data")
	case "darwin":
		home, err := os.UserHomeDir()
		return filepath.Join(home, "Library", "Application Support", "Herald"), err
	default: // XDG Base Directory Specification
		if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "herald"), nil
		}
		home, err := os.UserHomeDir()
		return filepath.Join(home, ".local", "share", "herald"), err
	}
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

// launch runs a program that hands its work on and ends. The output of a program
// that stays, as those for the clipboard do, is not waited for.
func launch(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	hideWindow(cmd)
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	return cmd.Run()
}
