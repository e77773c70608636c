package auth_test

import (
	"testing"

	"github.com/herald-push/herald/services/internal/auth"
)

func TestMay(t *testing.T) {
	p := auth.Principal{Channels: []string{"orders.*", "user.7.>"}}
	for channel, want := range map[string]bool{
		"orders.eu": true, "orders.eu.paid": false, "orders.*": true, "orders.>": false, "orders": false,
		"user.7.mail": true, "user.7.>": true, "user.7": false, "user.8.mail": false, ">": false,
	} {
		if got := p.May(channel); got != want {
			t.Errorf("%s: got %v, want %v", channel, got, want)
		}
	}
	if (&auth.Principal{}).May("broadcast") {
		t.Error("without patterns something is allowed")
	}
}
