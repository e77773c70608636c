package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSemver(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3":               "1.2.3",
		"v1.2.3-rc.1":          "1.2.3-rc.1",
		"v1.2.3-4-g5c016e5":    "1.2.3-4-g5c016e5",
		"5c016e5":              "0.0.0-g5c016e5", // a checkout without tags
		"0123456-dirty":        "0.0.0-g0123456-dirty",
		"devel":                "0.0.0-gdevel",
		"release/2 candidate!": "0.0.0-grelease-2-candidate-",
	} {
		if got := semver(version); got != want {
			t.Errorf("semver(%q): got %q, want %q", version, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	if got, err := choose(""); err != nil || len(got) != len(targets) {
		t.Errorf("got %v, %v; want all", got, err)
	}
	if got, err := choose("linux/arm64,windows/amd64"); err != nil || len(got) != 2 ||
		got[1].String() != "windows/amd64" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := choose("npm"); err != nil || got != nil {
		t.Errorf("got %v, %v; want none", got, err)
	}
	if _, err := choose("linux/amd64,plan9/arm"); err == nil || !strings.Contains(err.Error(), `"plan9/arm"`) {
		t.Errorf("got %v; want an error that names the system", err)
	}
}

// Neither the order in which files are named, nor their times, modes and folder
// change an archive's bytes.
func TestArchivesAreReproducible(t *testing.T) {
	date := time.Date(2026, 11, 28, 15, 0, 0, 0, time.UTC)
	for name, write := range map[string]func(string, []file, time.Time) error{"tar.gz": writeTarball, "zip": writeZip} {
		var archives [2][]byte
		for i := range archives {
			folder := t.TempDir()
			files := []file{{name: "h/LICENSE"}, {name: "h/herald", mode: 0o755}}
			for k := range files {
				files[k].from = filepath.Join(folder, filepath.Base(files[k].name))
				if err := os.WriteFile(files[k].from, []byte(files[k].name), os.FileMode(0o600+i)); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(files[k].from, date, date.AddDate(0, 0, i)); err != nil {
					t.Fatal(err)
				}
			}
			if i == 1 {
				files[0], files[1] = files[1], files[0]
			}
			path := filepath.Join(folder, "archive")
			if err := write(path, files, date); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			archives[i] = b
		}
		if !bytes.Equal(archives[0], archives[1]) {
			t.Errorf("%s: two runs made different bytes", name)
		}
	}
}

// The npm package has every module of the client, each with its types, and the
// version of the release.
func TestNpmPackage(t *testing.T) {
	r := release{source: "..", out: t.TempDir(), stage: t.TempDir(), version: "v1.2.3", date: time.Unix(0, 0)}
	if err := r.npm(); err != nil {
		t.Fatal(err)
	}
	members := untar(t, filepath.Join(r.out, "herald-push-client-1.2.3.tgz"))
	if got := members["package/package.json"]; !strings.Contains(got, `"version": "1.2.3"`) {
		t.Errorf("package.json has another version:\n%s", got)
	}
	modules, err := filepath.Glob("../web/client/*.js")
	if err != nil || len(modules) == 0 {
		t.Fatalf("got %v, %v", modules, err)
	}
	for _, path := range modules {
		name := "package/" + filepath.Base(path)
		if members[name] == "" {
			t.Errorf("the package lacks %s", name)
		}
		if members[strings.TrimSuffix(name, ".js")+".d.ts"] == "" {
			t.Errorf("the package lacks the types of %s; make npm-types", name)
		}
	}
}

func untar(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]string{}
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		members[h.Name] = string(b)
	}
}
