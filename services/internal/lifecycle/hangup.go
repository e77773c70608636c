package lifecycle

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// OutliveHangup keeps a hangup (SIGHUP) from ending the process until stop is
// called. By default it would end at once, with nothing drained. Whoever sends
// one wants files to be read again, and gets that without.
func OutliveHangup(log *slog.Logger) (stop func()) {
	hangup := make(chan os.Signal, 1) // the runtime sends, and drops what does not fit
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	var logging sync.WaitGroup
	logging.Go(func() {
		for {
			select {
			case <-hangup:
				log.Info("hangup: certificates, token secrets, key sets and an API key's file are read again when " +
					"their files change; other settings need a restart")
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(hangup)
		close(done)
		logging.Wait()
	}
}
