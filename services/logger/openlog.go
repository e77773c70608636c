package logger

import (
	"context"
	"fmt"
	"io"

	"github.com/herald-push/herald/services/logger/internal/store"
)

// What Log shows: rows and the filter that picks them.
type (
	Filter = store.Filter
	Row    = store.Row
	Page   = store.Page
)

// Log reads the logger's file directly, for tools on the same machine. A
// logger may be writing it. Safe for concurrent use.
type Log struct{ store *store.Store }

// OpenLog opens an existing file for reading only. The error names a file
// that is missing, or that another version of Herald made. Close frees it.
func OpenLog(path string) (*Log, error) {
	s, err := store.OpenReader(context.Background(), path)
	if err != nil {
		return nil, err
	}
	return &Log{s}, nil
}

// CheckLog reports why a logger could not write the file, with what to do
// about it. A file that is not there yet is fine: the logger makes it. Nothing
// is changed; a logger may be writing the file.
func CheckLog(ctx context.Context, path string) error {
	return explain(store.CheckWritable(ctx, path))
}

// Query returns one page; see Filter. A page with a Next may be short, even
// empty: the search reached its time limit and goes on there.
func (l *Log) Query(ctx context.Context, f Filter) (Page, error) { return l.store.Query(ctx, f) }

// Export writes every row that fits, as "csv" or "ndjson", like the API does;
// Limit does not count.
func (l *Log) Export(ctx context.Context, f Filter, format string, w io.Writer) error {
	if format != formatCSV && format != formatNDJSON {
		return fmt.Errorf("format %q: want csv or ndjson", format)
	}
	return writeRows(ctx, l.store, f, format, true, w)
}

// Close closes the file.
func (l *Log) Close() error { return l.store.Close() }
