package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// build makes the binary of a target and returns its path. The windowed one,
// for Windows alone, opens no console window and runs `herald desktop`.
func (r *release) build(t target, windowed bool) (path string, err error) {
	name := "herald"
	flags := fmt.Sprintf("-s -w -X %[1]s.Version=%[2]s -X %[1]s.Revision=%[3]s -X %[1]s.Date=%[4]s",
		"github.com/herald-push/herald/services/internal/telemetry", r.version, r.revision, r.date.Format(time.RFC3339))
	if windowed {
		name += "-desktop"
		flags += " -H windowsgui -X main.windowed=true"
	}
	if t.os == "windows" {
		name += ".exe"
		resources, err := r.resources(t, name)
		if err != nil {
			return "", err
		}
		defer func() { _ = os.Remove(resources) }()
	}
	path = filepath.Join(r.stage, t.os, t.arch, name)
	// -buildvcs=false: the flags say it, and a copy without .git makes the same bytes.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", path,
		"./services/allinone")
	return path, r.run(cmd, "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOFLAGS=")
}

// resources makes the icon, the version and the manifest that Windows shows, as
// an object file beside the sources, where the linker finds it. (Go's
// -overlay does not reach such files.) The caller removes it.
func (r *release) resources(t target, name string) (object string, err error) {
	var v [3]int
	_, _ = fmt.Sscanf(semver(r.version), "%d.%d.%d", &v[0], &v[1], &v[2]) // semver has the three
	number := fmt.Sprintf("%d.%d.%d.0", v[0], v[1], v[2])
	object = filepath.Join(r.source, "services", "allinone", "resources_windows_"+t.arch+".syso")
	args := []string{"run", resourceTool, "-64",
		"-icon", filepath.Join(r.source, "web", "favicon.ico"),
		"-manifest", filepath.Join(r.source, "packaging", "windows", "herald.manifest"),
		"-company", "Herald", "-product-name", "Herald", "-description", "Herald, real-time push", "-copyright",
		"MIT licence",
		"-original-name", name, "-internal-name", strings.TrimSuffix(name, ".exe"),
		"-file-version", number, "-product-version", semver(r.version), "-o", object,
		"-ver-major", fmt.Sprint(v[0]), "-ver-minor", fmt.Sprint(v[1]), "-ver-patch", fmt.Sprint(v[2]),
		"-product-ver-major", fmt.Sprint(v[0]), "-product-ver-minor", fmt.Sprint(v[1]), "-product-ver-patch",
		fmt.Sprint(v[2])}
	if t.arch == "arm64" {
		args = append(args, "-arm")
	}
	return object, r.run(exec.Command("go", append(args, filepath.Join(r.source, "packaging", "windows",
		"versioninfo.json"))...))
}

// inventory writes which modules a binary is made of, as CycloneDX, and returns
// the file, which is also one of the release's.
func (r *release) inventory(t target, binary string) (path string, err error) {
	path = filepath.Join(r.out, r.name(t)+".cdx.json")
	raw := filepath.Join(r.stage, "inventory.json")
	// Neither serial number nor time: the same binary has the same inventory.
	cmd := exec.Command("go", "run", inventoryTool, "bin", "-json", "-std", "-noserial", "-notimestamp",
		"-version", r.version, "-output", raw, binary)
	if err := r.run(cmd); err != nil {
		return "", err
	}
	b, err := os.ReadFile(raw)
	if err != nil {
		return "", err
	}
	var bom map[string]any
	if err := json.Unmarshal(b, &bom); err != nil {
		return "", fmt.Errorf("%s: %w", inventoryTool, err)
	}
	metadata, _ := bom["metadata"].(map[string]any)
	tools, _ := metadata["tools"].([]any)
	for _, tool := range tools {
		if tool, ok := tool.(map[string]any); ok {
			delete(tool, "hashes") // of the tool as it was compiled on this machine
		}
	}
	if len(tools) == 0 {
		return "", errors.New(inventoryTool + " does not say that it made the inventory; its format has changed")
	}
	if b, err = json.MarshalIndent(bom, "", "  "); err != nil {
		return "", err
	}
	b = bytes.ReplaceAll(b, []byte("(devel)"), []byte(r.version)) // Herald's own modules
	return path, os.WriteFile(path, append(b, '\n'), 0o644)
}

// run runs a command in the checkout, with variables in addition.
func (r *release) run(cmd *exec.Cmd, env ...string) error {
	cmd.Dir = r.source
	cmd.Env = append(os.Environ(), append([]string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.date.Unix())}, env...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

var (
	versionNumber = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([0-9A-Za-z.-]+))?$`)
	notSemver     = regexp.MustCompile(`[^0-9A-Za-z.-]`)
)

// semver is a version as npm, Debian and RPM want it: that of a tag without its
// v, else 0.0.0 with what git says as a pre-release.
func semver(version string) string {
	if m := versionNumber.FindStringSubmatch(version); m != nil {
		return strings.TrimPrefix(version, "v")
	}
	return "0.0.0-g" + notSemver.ReplaceAllString(version, "-")
}
