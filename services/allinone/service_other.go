//go:build !windows

package main

// runService serves until a signal ends the context, as the service managers of
// these systems stop a service.
func runService(p *serviceProgram) error {
	p.start()
	<-p.done
	return p.err
}
