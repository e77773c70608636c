package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/config/configtest"
)

// A stream that is cut off says from which line on to send again; lines that were
// answered are printed, those behind are not told as sent.
func TestSendCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		results int // before the connection breaks
		says    string
	}{
		"before any result": {says: "the answer was cut off: send again from line 1 on"},
		"after two":         {results: 2, says: "the answer was cut off: send again from line 4 on"}, // line 3 is empty
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				lines := bufio.NewScanner(r.Body)
				w.WriteHeader(http.StatusOK)
				for i := range c.results {
					lines.Scan()
					fmt.Fprintf(w, "{\"line\":%d,\"status\":\"stored\",\"id\":\"e-%d\"}\n", i+1, i+1)
				}
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}))
			defer server.Close()
			file := filepath.Join(t.TempDir(), "lines.txt")
			if err := os.WriteFile(file, []byte("one\ntwo\n\nfour\n"+strings.Repeat("more\n", 1000)),
				0o600); err != nil {
				t.Fatal(err)
			}
			var out, said bytes.Buffer
			env := configtest.Vars(map[string]string{"HERALD_API_KEY": "hk_5kq2u7w3x9z4m6n8p1r0t2v4",
				"HERALD_URL": server.URL})
			err := run(t.Context(), []string{"send", "-file", file}, env,
				streams{in: strings.NewReader(""), out: &out, err: &said})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if got := strings.Count(out.String(), "stored"); got != c.results {
				t.Errorf("%d lines are told as stored, want %d:\n%s", got, c.results, out.String())
			}
		})
	}
}
