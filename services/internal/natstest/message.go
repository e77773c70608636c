package natstest

import (
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// NewMsg makes the NATS message for m, which has no ID: to be stored, or, if
// ephemeral, for the live subject directly. m must have been checked.
func NewMsg(m *proto.Message, h natsx.Headers, ephemeral bool) *nats.Msg {
	var msg nats.Msg
	natsx.Fill(&msg, m, h, ephemeral)
	return &msg
}
