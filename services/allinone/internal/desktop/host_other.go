//go:build !headless && (windows || (darwin && cgo))

package desktop

// TrayFault is nil: these systems always have a tray.
func TrayFault() error { return nil }
