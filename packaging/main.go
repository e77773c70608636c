// Command packaging makes the files of a release from a checkout: archives of
// the single binary for every system, Debian and RPM packages, the npm package
// of the JavaScript client, an inventory (SBOM) of each binary, and SHA256SUMS.
//
// The same sources with the same flags and the same Go make the same bytes, in
// whatever folder they lie: all times are the release's, owners and order are
// fixed, and no path of the machine gets into a file.
//
//	go run ./packaging -version v1.2.3 -revision 5c016e5 -epoch 1764345600 -out dist
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The tools that do what nobody should write again. Each is run by `go run`.
const (
	resourceTool  = "github.com/josephspurrier/goversioninfo/cmd/goversioninfo@v1.7.0"
	inventoryTool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"
	packageTool   = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"
)

// targets are the systems that a release is made for.
var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
}

// target is a system by Go's names.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// release is what is made, from what, and where to.
type release struct {
	source   string    // the checkout
	out      string    // an absolute folder; made anew
	stage    string    // a folder for what is on the way, gone afterwards
	version  string    // as git describes it
	revision string    // of the source
	date     time.Time // of every file
}

func main() {
	r := release{}
	var epoch int64
	var only string
	flag.StringVar(&r.source, "source", ".", "the checkout")
	flag.StringVar(&r.out, "out", "dist", "folder of the result; what is in it is taken away")
	flag.StringVar(&r.version, "version", "devel", "as `git describe` says it")
	flag.StringVar(&r.revision, "revision", "", "of the source")
	flag.Int64Var(&epoch, "epoch", 0, "time of all files, in seconds since 1970")
	flag.StringVar(&only, "only", "",
		"systems to build for, comma-separated, such as linux/amd64, or npm for none; all")
	flag.Parse()
	r.date = time.Unix(epoch, 0).UTC()
	if err := r.make(only); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// make builds the targets named in only, or all, and what belongs to them.
func (r *release) make(only string) (err error) {
	if r.source, err = filepath.Abs(r.source); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	wanted, err := choose(only)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if r.stage, err = os.MkdirTemp("", "herald-packaging-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.stage) }()
	for _, t := range wanted {
		fmt.Println(t)
		if err := r.pack(t); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	if err := r.npm(); err != nil {
		return fmt.Errorf("npm package: %w", err)
	}
	return writeSums(r.out)
}

// choose is the targets that only names, comma-separated: all if it is empty,
// none if it is "npm", whose package belongs to every release.
func choose(only string) (chosen []target, err error) {
	switch only {
	case "":
		return targets, nil
	case "npm":
		return nil, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(targets, func(t target) bool { return t.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no release for %q; want some of %v", name, targets)
		}
		chosen = append(chosen, targets[i])
	}
	return chosen, nil
}

// pack makes the files of one target.
func (r *release) pack(t target) error {
	binary, err := r.build(t, false)
	if err != nil {
		return err
	}
	inventory, err := r.inventory(t, binary)
	if err != nil {
		return err
	}
	files := []file{
		{from: binary, name: filepath.Base(binary), mode: 0o755},
		{from: filepath.Join(r.source, "README.md"), name: "README.md"},
		{from: filepath.Join(r.source, "CHANGELOG.md"), name: "CHANGELOG.md"},
		{from: filepath.Join(r.source, "LICENSE"), name: "LICENSE"},
		{from: inventory, name: "herald.cdx.json"},
	}
	if t.os == "windows" {
		windowed, err := r.build(t, true)
		if err != nil {
			return err
		}
		files = append(files, file{from: windowed, name: filepath.Base(windowed), mode: 0o755})
	}
	name := r.name(t)
	for i := range files {
		files[i].name = name + "/" + files[i].name
	}
	if t.os == "windows" {
		return writeZip(filepath.Join(r.out, name+".zip"), files, r.date)
	}
	if err := writeTarball(filepath.Join(r.out, name+".tar.gz"), files, r.date); err != nil {
		return err
	}
	if t.os == "linux" {
		return r.systemPackages(t, binary)
	}
	return nil
}

// name is a target's archive without its ending, such as
// herald-1.2.3-linux-amd64.
func (r *release) name(t target) string {
	return fmt.Sprintf("herald-%s-%s-%s", semver(r.version), t.os, t.arch)
}
