package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsd"
)

// room is what the stream of the embedded NATS may take of the disk, in bytes.
type room struct {
	free   uint64 // what may still be written
	stored uint64 // what the stream's files have already
	limit  uint64 // what the stream may grow to (-stream-max-bytes)
}

// short reports whether the disk is full before the stream is.
func (r room) short() bool { return r.free+r.stored < r.limit }

// natsFolder is the embedded NATS's own in the data folder.
func natsFolder(data string) string { return filepath.Join(data, "nats") }

// roomFor adds it up for the data folder, or for the folder in which that will
// be made.
func roomFor(cfg Config) (room, error) {
	r := room{limit: uint64(cfg.Ingest.StreamMaxBytes)}
	// nats-server's layout: account, then stream.
	files := filepath.Join(natsFolder(cfg.Data), "jetstream", "$G", "streams", proto.Stream)
	err := filepath.WalkDir(files, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // of a running Herald, which removes old files
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			r.stored += uint64(info.Size())
		}
		return err
	})
	if err != nil {
		return r, fmt.Errorf("size of the stream: %w", err)
	}
	dir := cfg.Data
	r.free, err = natsd.Free(dir)
	for parent := filepath.Dir(filepath.Clean(dir)); errors.Is(err, fs.ErrNotExist) &&
		parent != dir; parent = filepath.Dir(dir) {
		dir = parent
		r.free, err = natsd.Free(dir)
	}
	if err != nil {
		return r, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return r, nil
}
