package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/windows/svc"
)

// runService answers to Windows' service manager until that stops the service, or
// Herald ends by itself.
func runService(p *serviceProgram) error {
	if err := svc.Run(serviceName, serviceHandler{p}); err != nil {
		return fmt.Errorf("herald service run is for the service manager, who starts it: %w", err)
	}
	return p.err
}

type serviceHandler struct{ *serviceProgram }

// Execute is called by the service manager.
func (h serviceHandler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (ours bool,
	code uint32) {
	h.start()
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	for {
		select {
		case <-h.done:
			return true, 1 // the service manager starts it again
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32(h.stopsWithin().Milliseconds())}
				h.stop()
				<-h.done
				return false, 0
			}
		}
	}
}

// stopsWithin is how long stopping may take.
func (p *serviceProgram) stopsWithin() time.Duration {
	return p.cfg.Gateway.DrainDelay + p.cfg.Ingest.Drain + stopTimeout
}
