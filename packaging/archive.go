package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one member of an archive.
type file struct {
	from string // where its content is
	name string // in the archive, with slashes
	mode int64  // 0: 0644
}

// sorted is files by name, each with a mode.
func sorted(files []file) []file {
	files = slices.Clone(files)
	for i := range files {
		if files[i].mode == 0 {
			files[i].mode = 0o644
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files
}

// writeTarball writes a .tar.gz whose bytes depend on the files alone: sorted,
// owned by root, of one date.
func writeTarball(path string, files []file, date time.Time) error {
	return write(path, func(w io.Writer) error {
		zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		archive := tar.NewWriter(zipped)
		for _, f := range sorted(files) {
			info, err := os.Stat(f.from)
			if err != nil {
				return err
			}
			h := tar.Header{Name: f.name, Mode: f.mode, Size: info.Size(), ModTime: date, Format: tar.FormatUSTAR,
				Uname: "root", Gname: "root"}
			if err := archive.WriteHeader(&h); err != nil {
				return err
			}
			if err := copyInto(archive, f.from); err != nil {
				return err
			}
		}
		return errors.Join(archive.Close(), zipped.Close())
	})
}

// writeZip is writeTarball for Windows.
func writeZip(path string, files []file, date time.Time) error {
	return write(path, func(w io.Writer) error {
		archive := zip.NewWriter(w)
		for _, f := range sorted(files) {
			h := zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: date}
			h.SetMode(os.FileMode(f.mode))
			in, err := archive.CreateHeader(&h)
			if err != nil {
				return err
			}
			if err := copyInto(in, f.from); err != nil {
				return err
			}
		}
		return archive.Close()
	})
}

func copyInto(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	_, err = io.Copy(w, f)
	return err
}

// write makes a file, whose content f writes.
func write(path string, f func(io.Writer) error) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f(out), out.Close()); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

// writeSums writes SHA256SUMS of all files of a folder, as `sha256sum -c` reads
// it.
func writeSums(folder string) error {
	entries, err := os.ReadDir(folder) // sorted by name
	if err != nil {
		return err
	}
	return write(filepath.Join(folder, "SHA256SUMS"), func(w io.Writer) error {
		for _, e := range entries {
			hash := sha256.New()
			if err := copyInto(hash, filepath.Join(folder, e.Name())); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%x  %s\n", hash.Sum(nil), e.Name()); err != nil {
				return err
			}
		}
		return nil
	})
}
