package proctest

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// built holds the binaries of this test process.
var built struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string // by import path
}

// Build compiles a command by its import path, once for all tests of a
// process, and returns the binary's path. It is built without the race
// detector: what that would find is found by each service's own tests. The
// module that the test is in must require the command's.
func Build(t testing.TB, importPath string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if p, ok := built.paths[importPath]; ok {
		return p
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "herald-bin-*")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.paths = dir, map[string]string{}
	}
	name := path.Base(importPath)
	if majorVersion.MatchString(name) {
		name = path.Base(path.Dir(importPath))
	}
	p := filepath.Join(built.dir, strconv.Itoa(len(built.paths)), name)
	if out, err := exec.Command("go", "build", "-o", p, importPath).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", importPath, err, out)
	}
	built.paths[importPath] = p
	return p
}

// Clean removes the binaries; for TestMain, after the last test.
func Clean() {
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // what is left lies in the temporary folder
	}
	built.dir, built.paths = "", nil
}

// majorVersion ends the import path of a module from v2 on.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)
