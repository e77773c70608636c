package store

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"modernc.org/sqlite"
)

// connect makes a pool over the file. Each of its connections gets the
// pragmas from the DSN: an Exec would reach one pooled connection only.
func connect(path string, m mode) (*sql.DB, error) {
	q := url.Values{"mode": {m.open}}
	if m.txlock != "" {
		q.Set("_txlock", m.txlock)
	}
	if m.immutable {
		q.Set("immutable", "1")
	}
	for _, p := range []struct{ name, value string }{
		{"busy_timeout", fmt.Sprint(busyTimeout.Milliseconds())},
		{"auto_vacuum", m.vacuum}, // before the journal mode, which writes the file's first page
		{"journal_mode", m.journal},
		{"synchronous", "FULL"},
		{"query_only", m.queryOnly},
		{"cache_size", fmt.Sprint(-cacheKiB)},
		{"journal_size_limit", fmt.Sprint(walBytes)},
		// Statement journals of large batches stay in memory: where the root
		// file system is read-only there is no folder for temporary files.
		{"temp_store", "MEMORY"},
	} {
		if p.value != "" {
			q.Add("_pragma", p.name+"("+p.value+")")
		}
	}
	return sql.Open("sqlite", fileURI(path, q))
}

// resultCode is SQLite's extended result code in err, or 0.
func resultCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
