package natsx

// ReconnectDelay is here for its test: natstest imports this package, so that
// tests with a server cannot be inside it.
var ReconnectDelay = reconnectDelay
