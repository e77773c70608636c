package natsx

// Here for their tests: natstest imports this package, so that
// tests with a server cannot be inside it.
var (
	ReconnectDelay = reconnectDelay
	Patiently      = patiently
)
