//go:build !headless && (!darwin || cgo)

package desktop

import (
	"bytes"
	"image/png"
	"io"
	"log"
	"runtime"
	"sync"

	"fyne.io/systray"
	"github.com/fyne-io/image/ico"
)

// Item is a line of the menu. Do runs in a goroutine of the item's own.
type Item struct {
	Title string
	Do    func()
}

// Tray is an icon in the tray with a state and a menu.
type Tray struct {
	title string
	icon  []byte
	items []Item

	ready   chan struct{}  // closed once the menu is there
	end     chan struct{}  // closed by Close
	states  chan string    // holds the newest state that is not shown yet
	actions sync.WaitGroup // goroutines of the items and of the state
}

// NewTray makes a tray that Run shows. icon is a file in the format ICO.
func NewTray(title string, icon []byte, items []Item) *Tray {
	return &Tray{title: title, icon: icon, items: items, ready: make(chan struct{}), end: make(chan struct{}),
		states: make(chan string, 1)}
}

// Run shows the icon until Close is called, and returns when no action runs any
// more. Windows and macOS want it called on the first goroutine of the program,
// where main runs.
func (t *Tray) Run() {
	log.SetOutput(io.Discard) // of the library: what can go wrong is TrayFault's
	if early {
		t.appear()
	}
	systray.Run(t.show, nil)
	<-t.ready
	t.actions.Wait()
}

// early: name and icon are set before the library starts. Where it speaks to a panel by D-Bus it offers both while show
// runs, and loses what is set in that moment; Windows and macOS have no place for them before.
const early = runtime.GOOS != "windows" && runtime.GOOS != "darwin"

// appear sets name and icon.
func (t *Tray) appear() {
	systray.SetTitle(t.title)
	systray.SetTooltip(t.title)
	systray.SetIcon(t.picture())
}

// show fills the menu.
func (t *Tray) show() {
	defer close(t.ready)
	if !early {
		t.appear()
	}
	state := systray.AddMenuItem(t.title, "")
	state.Disable()
	t.actions.Go(func() {
		for {
			select {
			case s := <-t.states:
				state.SetTitle(s)
				systray.SetTooltip(t.title + ": " + s)
			case <-t.end:
				return
			}
		}
	})
	systray.AddSeparator()
	for _, item := range t.items {
		entry := systray.AddMenuItem(item.Title, "")
		t.actions.Go(func() {
			for {
				select {
				case <-entry.ClickedCh:
					item.Do()
				case <-t.end:
					return
				}
			}
		})
	}
}

// Say shows a state: in the menu, and where the pointer rests on the icon. It waits for
// nothing, since a panel may hang: of states that could not be shown yet the newest is
// shown. Safe for concurrent use.
func (t *Tray) Say(state string) {
	for {
		select {
		case t.states <- state:
			return
		default:
		}
		select {
		case <-t.states: // an older one
		default:
		}
	}
}

// Close removes the icon. It is called once.
func (t *Tray) Close() {
	close(t.end)
	systray.Quit()
}

// picture is the icon as this system wants it.
func (t *Tray) picture() []byte {
	if runtime.GOOS == "windows" {
		return t.icon
	}
	picture, err := ico.Decode(bytes.NewReader(t.icon)) // the largest
	if err != nil {
		return nil // an icon that cannot be read is not worth a start
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil
	}
	return b.Bytes()
}
