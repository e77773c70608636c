//go:build cgo

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"

	"github.com/mattn/go-sqlite3"
)

// Driver names the SQLite driver of this build.
const Driver = "mattn/go-sqlite3"

// connect makes a pool over the file. Each of its connections gets the
// pragmas from the DSN, the one that has no parameter there from a hook: an
// Exec would reach one pooled connection only.
func connect(path string, m mode) *sql.DB {
	q := url.Values{
		"mode":          {m.open},
		"_journal_mode": {m.journal},
		"_synchronous":  {"FULL"},
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_auto_vacuum":  {m.vacuum},
		"_query_only":   {m.queryOnly},
		"_cache_size":   {fmt.Sprint(-cacheKiB)},
		"_txlock":       {m.txlock},
	}
	for k, v := range q {
		if v[0] == "" {
			q.Del(k)
		}
	}
	return sql.OpenDB(connector{
		dsn: fileURI(path, q),
		driver: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
			_, err := c.Exec(fmt.Sprintf("PRAGMA journal_size_limit = %d", walBytes), nil)
			return err
		}},
	})
}

// connector keeps the hook without a driver name in a global table.
type connector struct {
	dsn    string
	driver *sqlite3.SQLiteDriver
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.driver }

// resultCode is SQLite's extended result code in err, or 0.
func resultCode(err error) int {
	var e sqlite3.Error
	if errors.As(err, &e) {
		if e.ExtendedCode != 0 {
			return int(e.ExtendedCode)
		}
		return int(e.Code)
	}
	return 0
}
