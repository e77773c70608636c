//go:build headless || (darwin && !cgo)

package desktop

import "fmt"

// Item is a line of the menu.
type Item struct {
	Title string
	Do    func()
}

// Tray stands in for the tray icon, which this binary was built without.
type Tray struct{ end chan struct{} }

// NewTray shows no icon.
func NewTray(string, []byte, []Item) *Tray { return &Tray{make(chan struct{})} }

// TrayFault says that this binary has no tray.
func TrayFault() error {
	return fmt.Errorf("%w: this binary was built without (on macOS it needs a C compiler)", ErrNoTray)
}

// Run waits for Close.
func (t *Tray) Run() { <-t.end }

// Say says it to nobody.
func (t *Tray) Say(string) {}

// Close ends Run.
func (t *Tray) Close() { close(t.end) }
