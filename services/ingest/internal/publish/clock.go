package publish

import (
	"time"

	"github.com/herald-push/herald/proto"
)

// clock writes the time of a message; those of one millisecond share the text.
type clock struct {
	milli int64
	s     string
}

func (c *clock) text(t time.Time) string {
	if milli := t.UnixMilli(); milli != c.milli || c.s == "" {
		c.milli, c.s = milli, proto.FormatTime(t)
	}
	return c.s
}
