package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Kind says how the text of a setting is read, where its Go type does not.
type Kind int

const (
	// Plain is read by its type.
	Plain Kind = iota
	// Bytes is a size: 1048576, 64KiB, 1.5GiB.
	Bytes
	// Address is where to listen: :5000, 127.0.0.1:5000, or a port alone. An empty
	// one is left to the service, or to NotEmpty.
	Address
)

var daysIn = regexp.MustCompile(`(\d+(?:\.\d*)?|\.\d+)d`)

// durationForm is what looks like a duration; one that cannot be read is too long.
var durationForm = regexp.MustCompile(`^[-+]?((\d+(\.\d*)?|\.\d+)(d|h|m|s|ms|us|µs|ns))+$`)

// Duration is time.ParseDuration with days of 24 hours: 30d, 1d12h.
func Duration(v string) (time.Duration, error) {
	var wrong error
	hours := daysIn.ReplaceAllStringFunc(v, func(days string) string {
		n, err := strconv.ParseFloat(strings.TrimSuffix(days, "d"), 64)
		if err != nil {
			wrong = err
		}
		return strconv.FormatFloat(24*n, 'f', -1, 64) + "h"
	})
	d, err := time.ParseDuration(hours)
	switch {
	case err == nil && wrong == nil:
		return d, nil
	case durationForm.MatchString(v):
		return 0, errors.New("the longest duration is 106751d, or 292 years")
	}
	return 0, errors.New("want a duration such as 10s, 5m, 24h or 30d")
}

// units are those of sizes. A bare K, M or G is not among them: some take it
// for 1000, some for 1024.
var units = map[string]float64{
	"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "ki": 1 << 10, "mi": 1 << 20,
	"gi": 1 << 30, "ti": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

var sizeForm = regexp.MustCompile(`^(\d+|\d+\.\d+) ?([a-zA-Z]*)$`)

// Size reads a number of bytes, with a unit or without.
func Size(v string) (int64, error) {
	m := sizeForm.FindStringSubmatch(strings.TrimSpace(v))
	if m == nil {
		return 0, errSize
	}
	if m[2] == "" || strings.EqualFold(m[2], "b") {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return 0, errSize
		}
		return n, nil
	}
	unit, known := units[strings.ToLower(m[2])]
	n, err := strconv.ParseFloat(m[1], 64)
	if !known || err != nil || n*unit >= math.MaxInt64 {
		return 0, errSize
	}
	return int64(n * unit), nil
}

var errSize = errors.New("want bytes, such as 1048576, 64KiB, 8MiB or 1.5GiB")

// ShowSize writes a size as Size reads it, with the largest unit that divides it.
func ShowSize(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if size := int64(units[strings.ToLower(unit)]); n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// Time reads a time of RFC 3339, or a day, which stands for its first moment in
// UTC.
func Time(v string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, v); err == nil {
		return day, nil
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(v)) // t and z have no case (RFC 3339 section 5.6)
	if err != nil {
		return time.Time{}, errors.New("want a time such as 2026-11-22T16:58:36Z (RFC 3339), or a day such as " +
			"2026-11-22, which means its first moment in UTC")
	}
	return t, nil
}

// listenAddress makes what a person gives as an address one for net.Listen. A
// port alone means all interfaces.
func listenAddress(v string) (string, error) {
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		v = ":" + strconv.FormatUint(n, 10)
	}
	if v == "" {
		return v, nil
	}
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", errors.New("want an address such as :5000, 127.0.0.1:5000 or [::1]:5000, or a port alone")
	}
	if n, err := strconv.ParseUint(port, 10, 32); err != nil || n > 65535 {
		return "", fmt.Errorf("%q is not a port; want a number from 0 to 65535, where 0 is any that is free", port)
	}
	return v, nil
}

// mostWhole bounds whole numbers and sizes: what is added to a limit, or multiplied with it, must not overflow. It
// is also the largest that a page shows exactly.
const mostWhole = 1<<53 - 1

// whole reads a whole number, or a size.
func whole(k Kind, v string) (int64, error) {
	if k == Bytes {
		n, err := Size(v)
		if err == nil && n > mostWhole {
			err = fmt.Errorf("want at most %d bytes", int64(mostWhole))
		}
		return n, err
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && max(n, -n) > mostWhole, n == math.MinInt64:
		return 0, fmt.Errorf("want a whole number up to %d", int64(mostWhole))
	case err != nil:
		return 0, errors.New("want a whole number")
	}
	return n, nil
}
