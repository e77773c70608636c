package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// The file stays as its author wrote it, but for what is set.
func TestSetMembers(t *testing.T) {
	members := [][2]string{{"http", "https"}, {"socketport", "5443"}}
	for _, c := range []struct{ name, text, want string }{
		{"no file", "", "{\n  \"http\": \"https\",\n  \"socketport\": \"5443\"\n}\n"},
		{"the predecessor's", "{\n    \"http\": \"http\",\n    \"socketport\": \"5000\",\n    \"certpath\": \"\"\n}",
			"{\n    \"http\": \"https\",\n    \"socketport\": \"5443\",\n    \"certpath\": \"\"\n}"},
		{"one line", `{"keep":[1, {"http": 2}],"http":"http"}`,
			`{"keep":[1, {"http": 2}],"http":"https", "socketport": "5443"}`},
		{"lines of Windows", "{\r\n\t\"a\": 1\r\n}\r\n",
			"{\r\n\t\"a\": 1,\r\n\t\"http\": \"https\",\r\n\t\"socketport\": \"5443\"\r\n}\r\n"},
		{"a byte order mark", "\ufeff{\"socketport\" : 5000 }",
			"\ufeff{\"socketport\" : \"5443\", \"http\": \"https\" }"},
		{"a list", "[1]", ""},
		{"cut off", `{"http": "htt`, ""},
	} {
		got, err := setMembers([]byte(c.text), members)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: got %q, want an error", c.name, got)
			}
			continue
		}
		if err != nil || !json.Valid([]byte(strings.TrimPrefix(string(got), "\ufeff"))) {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
		if string(got) != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// certificate writes one for 127.0.0.1 that is its own authority, and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pair := s.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, pair.Certificate[0], key)
}

// certificateOf writes one that is valid in this time, and its key.
func certificateOf(t *testing.T, from, to time.Time) (certFile, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plan := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: from,
		NotAfter: to}
	signed, err := x509.CreateCertificate(rand.Reader, plan, plan, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, signed, key)
}

// writePEM writes a certificate and its key.
func writePEM(t *testing.T, cert, key []byte) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// insecureClient takes every certificate, and keeps no connection.
func insecureClient(t *testing.T) *http.Client {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 2 * time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// runUntilEnd runs run until the test ends.
func runUntilEnd(t *testing.T, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }() // ends with stop
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// mover is a server whose address can be changed, and who it answers.
func mover(t *testing.T) (*relisten, func(admin.Listen) error) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	server, err := httpx.NewServer(httpx.ServerConfig{Listen: ":" + proctest.FreePort(t)},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "here")
		}), quiet)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, server.Run)
	l := newRelisten(server, defaultConfig(), []config.Setting{{Flag: "listen", From: config.FromFile}},
		filepath.Join(t.TempDir(), "config", "socket_config.json"), quiet)
	l.within = time.Hour // see expire
	t.Cleanup(l.close)
	client := insecureClient(t)
	return l, func(at admin.Listen) error {
		resp, err := client.Get(at.Protocol + "://127.0.0.1:" + at.Port)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
}

// expire has the time of the change that waits be over.
func expire(l *relisten) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending.timer.Reset(0)
}

// A change that the next start would not know of is refused before it is made.
func TestRelistenNeedsItsFile(t *testing.T) {
	l, reach := mover(t)
	now, _, _, _ := l.Now()
	folder := t.TempDir()
	damaged := filepath.Join(folder, "damaged.json")
	if err := os.WriteFile(damaged, []byte(`{"http": `), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(damaged, "config", "socket_config.json"), damaged, folder} {
		l.file = file
		_, _, err := l.Change(admin.Listen{Protocol: "http", Port: proctest.FreePort(t)})
		if err == nil || !strings.Contains(err.Error(), "the next start would not know of it") {
			t.Errorf("%s: got %v", file, err)
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("in the folder are %v, %v; want the damaged file alone", left, err)
	}
	if err := reach(now); err != nil {
		t.Error(err)
	}
}

// A change that nobody confirms ends by itself, also on the same port, and what cannot
// work changes nothing.
func TestRelistenGoesBack(t *testing.T) {
	cert, key := certificate(t)
	for _, c := range []struct {
		name string
		want func(now admin.Listen) admin.Listen
	}{
		{"another port", func(now admin.Listen) admin.Listen {
			return admin.Listen{Protocol: "http", Port: proctest.FreePort(t)}
		}},
		{"the same port by HTTPS", func(now admin.Listen) admin.Listen {
			return admin.Listen{Protocol: "https", Port: now.Port, CertPath: cert, KeyPath: key}
		}},
	} {
		l, reach := mover(t)
		old, _, _, _ := l.Now()
		want := c.want(old)
		token, _, err := l.Change(want)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, _, err := l.Change(admin.Listen{Protocol: "http", Port: "1"}); !errors.Is(err, admin.ErrUnderWay) {
			t.Errorf("%s: a second change: got %v", c.name, err)
		}
		expire(l)
		natstest.Eventually(t, 30*time.Second, c.name+": the old address again",
			func() bool { return reach(old) == nil && reach(want) != nil })
		if _, err := l.Confirm(t.Context(), token); !errors.Is(err, admin.ErrUnconfirmed) {
			t.Errorf("%s: confirmed too late: got %v", c.name, err)
		}
		if now, _, _, _ := l.Now(); now != old {
			t.Errorf("%s: it says that it listens at %+v", c.name, now)
		}
		if _, err := os.Stat(l.file); err == nil {
			t.Errorf("%s: the file was written", c.name)
		}
	}
	l, reach := mover(t)
	now, _, _, _ := l.Now()
	other, _ := mover(t)
	ended, endedKey := certificateOf(t, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	early, earlyKey := certificateOf(t, time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour))
	long := filepath.Join(t.TempDir(), "long.pem")
	if err := os.WriteFile(long, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, _, _, _ := other.Now()
	for _, c := range []struct {
		want admin.Listen
		text string
	}{
		{admin.Listen{Protocol: "https", Port: now.Port, CertPath: "/nowhere/cert.pem", KeyPath: key},
			"/nowhere/cert.pem"},
		{admin.Listen{Protocol: "https", Port: proctest.FreePort(t), CertPath: cert, KeyPath: cert},
			"HTTPS certificate"},
		{admin.Listen{Protocol: "http", Port: taken.Port}, "another program has the port"},
		{admin.Listen{Protocol: "ftp", Port: "1"}, "protocol"},
		{admin.Listen{Protocol: "http", Port: "70000"}, "1 to 65535"},
		{admin.Listen{Protocol: "https", Port: "1"}, "certpath"},
		{now, "already"},
		{admin.Listen{Protocol: "http", Port: "0" + proctest.FreePort(t)}, "such as 5000"},
		{admin.Listen{Protocol: "https", Port: now.Port, CertPath: cert, KeyPath: t.TempDir()}, "is a folder"},
		{admin.Listen{Protocol: "https", Port: now.Port, CertPath: os.DevNull, KeyPath: key}, "want a file"},
		{admin.Listen{Protocol: "https", Port: now.Port, CertPath: long, KeyPath: key}, "more than 4 MiB"},
		{admin.Listen{Protocol: "https", Port: now.Port, CertPath: ended, KeyPath: endedKey},
			"the certificate ended on"},
		{admin.Listen{Protocol: "https", Port: now.Port, CertPath: early, KeyPath: earlyKey},
			"the certificate begins on"},
	} {
		if _, _, err := l.Change(c.want); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: got %v, want %s", c.want, err, c.text)
		}
		if err := reach(now); err != nil {
			t.Fatalf("after %+v: %v", c.want, err)
		}
	}
}

// A file that blocks who reads it holds up nobody: another change waits for nothing.
func TestRelistenReadsOne(t *testing.T) {
	cert, key := certificate(t)
	l, _ := mover(t)
	l.reading <- struct{}{} // as if one were read that does not come
	want := admin.Listen{Protocol: "https", Port: proctest.FreePort(t), CertPath: cert, KeyPath: key}
	if _, _, err := l.Change(want); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("got %v", err)
	}
	now, _, _, _ := l.Now()
	if _, _, err := l.Change(now); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("got %v", err)
	}
	<-l.reading
	if _, _, err := l.Change(want); err != nil {
		t.Errorf("got %v", err)
	}
}

// A change that is confirmed lasts, frees the old address, and stands in the file.
func TestRelistenConfirmed(t *testing.T) {
	cert, key := certificate(t)
	l, reach := mover(t)
	if err := os.MkdirAll(filepath.Dir(l.file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.file, []byte(`{"socketport": "5000", "log-level": "debug"}`), 0o640); err != nil {
		t.Fatal(err)
	}
	old, _, _, _ := l.Now()
	same := admin.Listen{Protocol: "https", Port: old.Port, CertPath: cert, KeyPath: key}
	for _, want := range []admin.Listen{same, {Protocol: "http", Port: proctest.FreePort(t), CertPath: cert,
		KeyPath: key}} {
		token, _, err := l.Change(want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Confirm(t.Context(), "guess"); !errors.Is(err, admin.ErrUnconfirmed) {
			t.Errorf("a guessed token: got %v", err)
		}
		now, err := l.Confirm(t.Context(), token)
		if err != nil || now != want {
			t.Fatalf("got %+v, %v", now, err)
		}
		if err := reach(want); err != nil {
			t.Error(err)
		}
	}
	if err := reach(same); err == nil {
		t.Error("the old address answers")
	}
	b, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	now, _, _, _ := l.Now()
	want := `{"socketport": "` + now.Port + `", "log-level": "debug", "http": "http", "certpath": "` + cert +
		`", "keypath": "` + key + `"}`
	if string(b) != want {
		t.Errorf("the file: got %s, want %s", b, want)
	}
	if info, err := os.Stat(l.file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode: got %v, %v", info.Mode(), err)
	}
}
