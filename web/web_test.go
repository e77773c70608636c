package web_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/herald-push/herald/web"
)

// References between files: src and href in HTML, imports in JavaScript, url()
// and @import in CSS. All are relative, so that a proxy may have Herald in a folder.
var references = map[string]*regexp.Regexp{
	".html": regexp.MustCompile(`(?:src|href)="([^"]*)"`),
	".js":   regexp.MustCompile(`(?m)^(?:import|export)\b[^;]*?\bfrom "([^"]*)"`),
	".css":  regexp.MustCompile(`(?:url\(|@import )["']?([^"')]*)`),
}

// links lead somewhere else when somebody follows them; nothing is fetched.
var links = regexp.MustCompile(`<a href="https://github\.com/herald-push/herald[^"]*">`)

// What a strict Content-Security-Policy forbids, or what turns data into
// markup: neither may stand in a file that is served.
var forbidden = map[string][]*regexp.Regexp{
	".html": {
		regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^\s<]`), // inline script
		regexp.MustCompile(`(?i)<style`),
		regexp.MustCompile(`(?i)\sstyle\s*=`),
		regexp.MustCompile(`(?i)\son[a-z]+\s*=`), // inline handler
		regexp.MustCompile(`(?i)="javascript:`),
		regexp.MustCompile(`(?i)https?://`),
	},
	".js": {
		regexp.MustCompile(
			`innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|\beval\(|new Function`),
		regexp.MustCompile(`https?://`),
	},
	".css": {regexp.MustCompile(`https?://`)},
}

func TestPages(t *testing.T) {
	for _, name := range files(t) {
		if strings.HasPrefix(name, "third_party/") { // held by TestThirdParty
			continue
		}
		ext := path.Ext(name)
		text := links.ReplaceAllString(read(t, name), "<a>")
		if re := references[ext]; re != nil {
			for _, m := range re.FindAllStringSubmatch(text, -1) {
				folder := path.Dir(name)
				if name == "demo/index.html" || name == "admin/index.html" { // served at / and /admin/
					folder = "."
				}
				target := path.Join(folder, m[1])
				switch _, err := fs.Stat(web.FS, target); {
				case strings.HasPrefix(m[1], "/"):
					t.Errorf("%s: %q is an absolute path", name, m[1])
				case err != nil && target != "openapi.json": // which ingest serves
					t.Errorf("%s: %q is not there", name, m[1])
				}
			}
		}
		for _, re := range forbidden[ext] {
			if m := re.FindString(text); m != "" {
				t.Errorf("%s: has %q", name, m)
			}
		}
	}
}

// The parts that a server names itself.
func TestServedFiles(t *testing.T) {
	if !strings.HasPrefix(read(t, "demo/index.html"), "<!doctype html>") {
		t.Error("demo/index.html is not HTML")
	}
	if !strings.HasPrefix(read(t, "favicon.ico"), "\x00\x00\x01\x00") {
		t.Error("favicon.ico is not an icon")
	}
	if !strings.HasPrefix(read(t, "admin/index.html"), "<!doctype html>") {
		t.Error("admin/index.html is not HTML")
	}
	read(t, "client/herald.js")
}

// Libraries are the unchanged files of the packages that third_party/README.md
// names, each beside its licence, and none of them imports another by a bare
// name, which a browser resolves only with an inline import map.
func TestThirdParty(t *testing.T) {
	listed := map[string]string{}
	row := regexp.MustCompile(`(?m)^\| .* \| ([^| ]+) \| ([0-9a-f]{64}) \|$`)
	for _, m := range row.FindAllStringSubmatch(read(t, "third_party/README.md"), -1) {
		listed["third_party/"+m[1]] = m[2]
	}
	bare := regexp.MustCompile(`(?:from|import)\s*["'][^"'./]`)
	for _, name := range files(t) {
		if !strings.HasPrefix(name, "third_party/") || path.Base(name) == "README.md" {
			continue
		}
		text := read(t, name)
		if path.Base(name) == "LICENSE" {
			if !strings.Contains(text, "License") {
				t.Errorf("%s is no licence", name)
			}
			continue
		}
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); got != listed[name] {
			t.Errorf("%s: SHA-256 is %s; third_party/README.md says %q", name, got, listed[name])
		}
		delete(listed, name)
		if _, err := fs.Stat(web.FS, path.Join(path.Dir(name), "LICENSE")); err != nil {
			t.Errorf("%s has no LICENSE beside it", name)
		}
		if m := bare.FindString(text); m != "" {
			t.Errorf("%s: has %q", name, m)
		}
	}
	for name := range listed {
		t.Errorf("%s is in third_party/README.md only", name)
	}
}

func TestTestsAreNotEmbedded(t *testing.T) {
	for _, name := range files(t) {
		if strings.Contains(name, "test") || strings.Contains(name, "node_modules") {
			t.Errorf("%s is embedded", name)
		}
	}
}

func files(t *testing.T) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(web.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := fs.ReadFile(web.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
