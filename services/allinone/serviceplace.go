package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// reachable reports what keeps a service that has a user of its own from the binary or
// the folder that it is to run in. systemd would say no more than that it failed.
func reachable(binary, folder string) error {
	if why := shut(binary); why != "" {
		return fmt.Errorf("the service's own user may not run %s: %s; put herald into /usr/local/bin and install it "+
			"from there, or name a user with -user", binary, why)
	}
	if why := shut(folder); why != "" {
		return fmt.Errorf("folder: the service's own user may not enter %s: %s; stand in another one, or name one "+
			"with -folder, such as /etc", folder, why)
	}
	return nil
}

// shut says why others do not get to path; empty: they do.
func shut(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err.Error()
	}
	for _, own := range []string{"/tmp/", "/var/tmp/"} { // PrivateTmp
		if strings.HasPrefix(path+"/", own) {
			return "it has a " + strings.TrimSuffix(own, "/") + " of its own"
		}
	}
	return closedToOthers(path)
}

// closedToOthers says which part of path only its owner may enter or run.
func closedToOthers(path string) string {
	for ; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return err.Error()
		case info.Mode().Perm()&0o001 == 0:
			return path + " is closed to others"
		case path == filepath.Dir(path):
			return ""
		}
	}
}
