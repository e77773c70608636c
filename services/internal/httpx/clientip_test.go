package httpx

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func proxies(t testing.TB, list string) *Proxies {
	t.Helper()
	var p Proxies
	if err := p.UnmarshalText([]byte(list)); err != nil {
		t.Fatal(err)
	}
	return &p
}

func request(remote string, forwarded ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = remote
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	return r
}

func TestProxiesText(t *testing.T) {
	for _, c := range []struct{ in, want, fault string }{
		{in: "", want: ""},
		{in: " , ", want: ""},
		{in: "10.0.0.0/8, 192.0.2.1", want: "10.0.0.0/8,192.0.2.1/32"},
		{in: "10.1.2.3/8", want: "10.0.0.0/8"},
		{in: "2001:db8::/32,::1", want: "2001:db8::/32,::1/128"},
		{in: "::ffff:192.0.2.1", want: "192.0.2.1/32"},
		{in: "::ffff:10.0.0.0/104", want: "10.0.0.0/8"},
		{in: "fe80::1%eth0", want: "fe80::1/128"},
		{in: "::ffff:0.0.0.0/90", fault: "wider than the IPv4-mapped"},
		{in: "10.0.0.0/33", fault: `"10.0.0.0/33" is neither`},
		{in: "10.0.0.0/8;10.1.0.0/16", fault: "is neither"},
		{in: "proxy.example", fault: `"proxy.example" is neither an address nor a prefix such as 10.0.0.0/8`},
	} {
		var p Proxies
		err := p.UnmarshalText([]byte(c.in))
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%q: got error %v, want %q", c.in, err, c.fault)
			}
			continue
		}
		if got, merr := p.MarshalText(); err != nil || merr != nil || string(got) != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestProxiesKeepWhatTheyHadOnFault(t *testing.T) {
	p := proxies(t, "10.0.0.0/8")
	if err := p.UnmarshalText([]byte("192.0.2.1,nonsense")); err == nil {
		t.Fatal("no error")
	}
	if got, _ := p.MarshalText(); string(got) != "10.0.0.0/8" {
		t.Errorf("got %s", got)
	}
}

func TestProxiesAreReplaced(t *testing.T) { // a setting that changes while the service runs
	p := proxies(t, "10.0.0.0/8")
	if err := p.UnmarshalText([]byte("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if got, _ := p.MarshalText(); string(got) != "192.0.2.1/32" {
		t.Errorf("got %s", got)
	}
}

func TestClientIP(t *testing.T) {
	for _, c := range []struct {
		name, trusted, remote string
		forwarded             []string
		want                  string
	}{
		{"no proxies are believed", "", "192.0.2.7:1234", []string{"198.51.100.1"}, "192.0.2.7"},
		{"a stranger forges", "10.0.0.0/8", "192.0.2.7:1234", []string{"10.0.0.1"}, "192.0.2.7"},
		{"one proxy", "10.0.0.0/8", "10.0.0.1:80", []string{"192.0.2.7"}, "192.0.2.7"},
		{"the client forged what is left of it", "10.0.0.0/8", "10.0.0.1:80", []string{"1.1.1.1, 192.0.2.7"},
			"192.0.2.7"},
		{"the client forged a trusted address", "10.0.0.0/8", "10.0.0.1:80", []string{"10.9.9.9, 192.0.2.7"},
			"192.0.2.7"},
		{"a chain of trusted proxies", "10.0.0.0/8,2001:db8::/32", "10.0.0.1:80",
			[]string{"1.1.1.1, 192.0.2.7, 2001:db8::5, 10.0.0.2"}, "192.0.2.7"},
		{"all of them are trusted", "10.0.0.0/8", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"several headers are one list", "10.0.0.0/8", "10.0.0.1:80", []string{"1.1.1.1", "192.0.2.7", "10.0.0.2"},
			"192.0.2.7"},
		{"a second header from the proxy", "10.0.0.0/8", "10.0.0.1:80", []string{"1.1.1.1, 10.0.0.9", "192.0.2.7"},
			"192.0.2.7"},
		{"no header", "10.0.0.0/8", "10.0.0.1:80", nil, "10.0.0.1"},
		{"an empty header", "10.0.0.0/8", "10.0.0.1:80", []string{""}, "10.0.0.1"},
		{"garbage", "10.0.0.0/8", "10.0.0.1:80", []string{"unknown"}, "10.0.0.1"},
		{"garbage hides what is left of it", "10.0.0.0/8", "10.0.0.1:80", []string{"192.0.2.7, garbage, 10.0.0.2"},
			"10.0.0.2"},
		{"an empty entry does too", "10.0.0.0/8", "10.0.0.1:80", []string{"192.0.2.7,"}, "10.0.0.1"},
		{"blanks and tabs", "10.0.0.0/8", "10.0.0.1:80", []string{" 1.1.1.1 ,\t192.0.2.7 "}, "192.0.2.7"},
		{"IPv6 in brackets", "10.0.0.0/8", "10.0.0.1:80", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv6 in brackets with a port", "10.0.0.0/8", "10.0.0.1:80", []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		{"IPv6 in brackets, quoted", "10.0.0.0/8", "10.0.0.1:80", []string{`"[2001:db8::7]:443"`}, "2001:db8::7"},
		{"IPv4 in brackets", "10.0.0.0/8", "10.0.0.1:80", []string{"[192.0.2.7]"}, "10.0.0.1"},
		{"empty brackets", "10.0.0.0/8", "10.0.0.1:80", []string{"[]"}, "10.0.0.1"},
		{"with a port", "10.0.0.0/8", "10.0.0.1:80", []string{"192.0.2.7:4711"}, "192.0.2.7"},
		{"IPv6 with a port", "10.0.0.0/8", "10.0.0.1:80", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"IPv6", "::1", "[::1]:80", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv4-mapped peer", "10.0.0.0/8", "[::ffff:10.0.0.1]:80", []string{"192.0.2.7"}, "192.0.2.7"},
		{"IPv4-mapped peer that is a stranger", "10.0.0.0/8", "[::ffff:192.0.2.7]:80", []string{"1.1.1.1"},
			"192.0.2.7"},
		{"IPv4-mapped proxy setting", "::ffff:10.0.0.0/104", "10.0.0.1:80", []string{"192.0.2.7"}, "192.0.2.7"},
		{"IPv4-mapped entry", "10.0.0.0/8", "10.0.0.1:80", []string{"192.0.2.7, ::ffff:10.0.0.2"}, "192.0.2.7"},
		{"zone of the peer", "fe80::/10", "[fe80::1%eth0]:80", []string{"192.0.2.7"}, "192.0.2.7"},
		{"zone of a stranger", "", "[fe80::1%eth0]:80", nil, "fe80::1"},
		{"zone of an entry", "10.0.0.0/8", "10.0.0.1:80", []string{"fe80::7%eth0"}, "fe80::7"},
		{"leading zeros are no address", "10.0.0.0/8", "10.0.0.1:80", []string{"192.0.02.7"}, "10.0.0.1"},
		{"peer without port", "10.0.0.0/8", "10.0.0.1", []string{"192.0.2.7"}, "192.0.2.7"},
		{"no address at all", "10.0.0.0/8", "@", []string{"192.0.2.7"}, "invalid IP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := proxies(t, c.trusted).ClientIP(request(c.remote, c.forwarded...)).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Whatever a client writes into the header, it cannot choose the address under
// which its proxy's entry counts it.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "1.1.1.1", "10.0.0.9, ::1", "unknown,,%", "[::1]:80", "fe80::1%eth0",
		"::ffff:10.1.1.1", strings.Repeat("10.0.0.1,", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p := proxies(t, "10.0.0.0/8,fd00::/8")
		stranger := netip.MustParseAddr("192.0.2.7")
		if got := p.ClientIP(request("192.0.2.7:1", header)); got != stranger {
			t.Errorf("a stranger became %s", got)
		}
		if got := p.ClientIP(request("10.0.0.1:1", header+", 192.0.2.7")); got != stranger {
			t.Errorf("behind a proxy that appends: became %s", got)
		}
		if got := p.ClientIP(request("10.0.0.1:1", header, "192.0.2.7, fd00::1")); got != stranger {
			t.Errorf("behind two proxies, the first of which adds a header: became %s", got)
		}
		if got := p.ClientIP(request("10.0.0.1:1", header)); !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("not a plain address: %v", got)
		}
	})
}
