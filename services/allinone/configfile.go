package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin"
)

// writeListen writes where Herald listens into the config file, in its predecessor's
// words, and changes nothing else of it. The file is made if it is not there, and
// replaced in one step, so that a power cut leaves the old one or the new one.
func writeListen(path string, want admin.Listen) error {
	path, text, mode, err := withListen(path, want)
	if err == nil {
		err = replaceFile(path, text, mode)
	}
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	return nil
}

// mayWriteListen says why writeListen could not do so, and changes nothing; nil: it could.
func mayWriteListen(path string, want admin.Listen) error {
	path, _, _, err := withListen(path, want)
	if err == nil {
		err = replaceable(path)
	}
	return err
}

// withListen is the file at path behind its links, with what writeListen would write.
func withListen(path string, want admin.Listen) (real string, text []byte, mode fs.FileMode, err error) {
	if real, err = filepath.EvalSymlinks(path); err != nil {
		real = path
	}
	mode = 0o644
	old, err := os.ReadFile(real)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	} else if info, fault := os.Stat(real); fault == nil {
		mode = info.Mode().Perm()
	}
	if err != nil {
		return real, nil, 0, err
	}
	if text, err = setMembers(old, listenMembers(want)); err != nil {
		err = fmt.Errorf("%s: %w", real, err)
	}
	return real, text, mode, err
}

// replaceable says why replaceFile could not replace path; nil: it could.
func replaceable(path string) error {
	folder := filepath.Dir(path)
	for { // that replaceFile would make
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || folder == filepath.Dir(folder) {
			break
		}
		folder = filepath.Dir(folder)
	}
	f, err := os.CreateTemp(folder, ".herald-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// replaceFile writes a file beside path, and puts it in path's place.
func replaceFile(path string, text []byte, mode fs.FileMode) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, ".herald-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close(), os.Chmod(f.Name(), mode))
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

var byteOrderMark = []byte("\ufeff")

// setMembers sets members of a JSON object to strings, where they stand, and appends those
// that it lacks in the way in which its others are written.
func setMembers(text []byte, members [][2]string) ([]byte, error) {
	mark := text[:0:0]
	if rest, ok := bytes.CutPrefix(text, byteOrderMark); ok {
		mark, text = byteOrderMark, rest
	}
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{\n}\n")
	}
	for _, m := range members {
		value, err := proto.Marshal(m[1])
		if err != nil {
			return nil, err
		}
		if text, err = setMember(text, m[0], value); err != nil {
			return nil, err
		}
	}
	return append(mark[:len(mark):len(mark)], text...), nil
}

// setMember sets one member to value, which is JSON.
func setMember(text []byte, name string, value []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	begin := int(d.InputOffset())
	end, first := begin, -1 // where the last member ends, and the first begins
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		if first < 0 {
			first = begin + bytes.IndexByte(text[begin:], '"')
		}
		var old json.RawMessage
		if err := d.Decode(&old); err != nil {
			return nil, err
		}
		end = int(d.InputOffset())
		if key == name {
			return splice(text, end-len(old), end, value), nil
		}
	}
	if _, err := d.Token(); err != nil { // the end of the object
		return nil, err
	}
	member := append([]byte(`"`+name+`": `), value...)
	if first < 0 {
		return splice(text, begin, begin, append([]byte("\n  "), member...)), nil
	}
	between := text[begin:first] // as before the first
	if len(between) == 0 {
		between = []byte(" ")
	}
	return splice(text, end, end, slices.Concat([]byte(","), between, member)), nil
}

// splice is text with by in place of text[from:to].
func splice(text []byte, from, to int, by []byte) []byte {
	return bytes.Join([][]byte{text[:from], by, text[to:]}, nil)
}
