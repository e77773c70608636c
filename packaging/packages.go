package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// systemPackages makes the .deb and the .rpm of a Linux target, as
// packaging/linux/nfpm.yaml says.
func (r *release) systemPackages(t target, binary string) error {
	for _, kind := range []string{"deb", "rpm"} {
		cmd := exec.Command("go", "run", packageTool, "package",
			"--config", "packaging/linux/nfpm.yaml", "--packager", kind, "--target", r.out+string(filepath.Separator))
		if err := r.run(cmd, "HERALD_PACKAGE_BINARY="+binary, "HERALD_PACKAGE_ARCH="+t.arch,
			"HERALD_PACKAGE_VERSION="+semver(r.version)); err != nil {
			return err
		}
	}
	return nil
}

// npm makes the package of the JavaScript client: the modules as they are in
// git, with their types and with the version of the release. It is what `npm
// pack` would make, and needs no npm.
func (r *release) npm() error {
	folder := filepath.Join(r.source, "packaging", "npm")
	b, err := os.ReadFile(filepath.Join(folder, "package.json"))
	if err != nil {
		return err
	}
	var manifest struct{ Name, Version string }
	if err := json.Unmarshal(b, &manifest); err != nil {
		return fmt.Errorf("package.json: %w", err)
	}
	stamped := strings.Replace(string(b), `"version": "`+manifest.Version+`"`, `"version": "`+semver(r.version)+`"`, 1)
	if stamped == string(b) {
		return fmt.Errorf("package.json: want one line with the version %q, to be replaced", manifest.Version)
	}
	path := filepath.Join(r.stage, "package.json")
	if err := os.WriteFile(path, []byte(stamped), 0o644); err != nil {
		return err
	}
	files := []file{
		{from: path, name: "package/package.json"},
		{from: filepath.Join(folder, "README.md"), name: "package/README.md"},
		{from: filepath.Join(r.source, "LICENSE"), name: "package/LICENSE"},
	}
	for _, pattern := range []string{"web/client/*.js", "packaging/npm/types/*.d.ts"} {
		found, err := filepath.Glob(filepath.Join(r.source, filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("there is no %s (%w)", pattern, err)
		}
		for _, from := range found {
			files = append(files, file{from: from, name: "package/" + filepath.Base(from)})
		}
	}
	return writeTarball(filepath.Join(r.out, "herald-push-client-"+semver(r.version)+".tgz"), files, r.date)
}
