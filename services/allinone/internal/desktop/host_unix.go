//go:build !headless && !windows && !darwin

package desktop

import (
	"fmt"
	"os"

	"github.com/godbus/dbus/v5"
)

// watcher is where panels that show icons answer.
const watcher = "org.kde.StatusNotifierWatcher"

// TrayFault says why no icon can be shown; nil: one can.
func TrayFault() error {
	// Where this variable is not set, the library would start a session bus of its own.
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
		return fmt.Errorf("%w: there is no session bus (DBUS_SESSION_BUS_ADDRESS)", ErrNoTray)
	}
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		return fmt.Errorf("%w: the session bus does not answer: %w", ErrNoTray, err)
	}
	defer func() { _ = conn.Close() }() // only asked
	var has bool
	if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, watcher).Store(&has); err != nil {
		return fmt.Errorf("%w: ask the session bus: %w", ErrNoTray, err)
	}
	if !has {
		return fmt.Errorf("%w: no panel here shows icons (GNOME needs the extension AppIndicator)", ErrNoTray)
	}
	return nil
}
