package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// proxies runs the configurations of docs/how-to/proxy.md: what of a configuration the page leaves to its
// reader, and how the program is called.
var proxies = []struct {
	language, program string
	whole             func(block, port string) string
	args              func(file, dir string) []string
}{
	{"nginx", "nginx", func(block, port string) string {
		block = strings.Replace(block, "# listen, server_name, ssl_certificate …", "listen 127.0.0.1:"+port+";", 1)
		block = strings.Replace(block, "/var/log/nginx/herald.log", "access.log", 1)
		return "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {}\n" +
			"http {\naccess_log off;\nclient_body_temp_path t1;\nproxy_temp_path t2;\n" +
			"fastcgi_temp_path t3;\nuwsgi_temp_path t4;\nscgi_temp_path t5;\n" +
			block + "}\n"
	}, func(file, dir string) []string { return []string{"-p", dir, "-c", file, "-e", "stderr"} }},
	{"haproxy", "haproxy", func(block, port string) string {
		return "global\n    log stdout format raw local0\n" +
			strings.Replace(strings.Replace(block, "defaults\n", "defaults\n    log global\n", 1), "127.0.0.1:8000",
				"127.0.0.1:"+port, 1)
	}, func(file, _ string) []string { return []string{"-db", "-f", file} }},
	{"caddy", "caddy", func(block, port string) string {
		return "{\n\tadmin off\n}\n" + strings.Replace(block, "127.0.0.1:8000", "127.0.0.1:"+port, 1)
	}, func(file, _ string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} }},
}

// The configurations of docs/how-to/proxy.md let everything through that herald doctor tries, and write no
// token down. The programs are in the system, or where make proxies unpacks them.
func TestProxiesInDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "how-to", "proxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), proctest.FreePort(t)
	herald := start(t, "allinone", dir, nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "", "-trusted-proxies",
		"127.0.0.1")
	herald.WaitFor("is ready")
	key := herald.Find(`hk_[a-z0-9]+`)[0]
	for _, p := range proxies {
		t.Run(p.language, func(t *testing.T) {
			program, env := findProxy(p.program)
			if program == "" {
				t.Logf("NOT TESTED here, for want of %s: the configuration in docs/how-to/proxy.md", p.program)
				return
			}
			block := regexp.MustCompile("(?s)```" + p.language + "\n(.*?)```").FindStringSubmatch(string(text))
			if block == nil {
				t.Fatal("there is no such block")
			}
			work, front := t.TempDir(), proctest.FreePort(t)
			if err := os.Chmod(work, 0o755); err != nil { // nginx's worker is another user
				t.Fatal(err)
			}
			file := filepath.Join(work, "proxy.conf")
			if err := os.WriteFile(file,
				[]byte(p.whole(strings.ReplaceAll(block[1], "127.0.0.1:5000", "127.0.0.1:"+port),
					front)), 0o644); err != nil {
				t.Fatal(err)
			}
			proxy := proctest.Start(t, program, work, append(env, "HOME="+work), p.args(file, work)...)
			natstest.Eventually(t, 30*time.Second, p.program+" to listen", func() bool {
				nc, err := net.Dial("tcp", "127.0.0.1:"+front)
				if err == nil {
					_ = nc.Close()
				}
				return err == nil
			})
			base := fmt.Sprintf("http://127.0.0.1:%s/push/", front)
			cmd := exec.Command(proctest.Build(t, module+"services/allinone"), "doctor", "-url", base, "-idle", "3s")
			cmd.Env = append(os.Environ(), "HERALD_API_KEY="+key)
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "WRONG") {
				t.Errorf("herald doctor: %v\n%s", err, out)
			}
			// Herald refuses the token; the proxy may write it to its log.
			resp, err := insecureClient(t).Get(base + "ws?token=eyJhbGciOi.SECRET.x")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			proxy.Kill()
			logged, _ := os.ReadFile(filepath.Join(work, "access.log")) // only nginx has one
			if all := proxy.Output() + string(logged); strings.Contains(all, "SECRET") {
				t.Errorf("the token is in the log:\n%s", all)
			}
		})
	}
	herald.Stop(20 * time.Second)
}

// findProxy is a program of the system, or one that make proxies has unpacked, with what it needs.
func findProxy(name string) (path string, env []string) {
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} { // not in everybody's PATH
		if path := filepath.Join(dir, name); exec.Command(path, "-v").Run() == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	unpacked := os.Getenv("HERALD_TEST_PROXIES")
	if unpacked == "" || runtime.GOOS != "linux" {
		return "", nil
	}
	libraries, _ := filepath.Glob(filepath.Join(unpacked, "usr", "lib", "*-linux-gnu*")) // the pattern is well-formed
	for _, dir := range []string{"sbin", "bin"} {
		path := filepath.Join(unpacked, "usr", dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
		}
	}
	return "", nil
}
