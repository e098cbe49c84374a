package strictyaml

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// parseDuration reads durations as people write them: what
// [time.ParseDuration] takes, and before it weeks and days of 24 hours, such as
// 30d, 2w or 1d12h.
func parseDuration(text string) (time.Duration, error) {
	var sum time.Duration
	rest, negative := strings.CutPrefix(text, "-")
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"w", week}, {"d", day}} {
		number, after, ok := strings.Cut(rest, unit.name)
		if !ok || strings.Trim(number, "0123456789.") != "" {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, err
		}
		if n*float64(unit.of)+float64(sum) >= math.MaxInt64 {
			return 0, errors.New("too long")
		}
		sum += time.Duration(n * float64(unit.of))
		rest = after
	}
	if rest != "" || sum == 0 {
		if strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
			return 0, errors.New("a sign in the middle")
		}
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, err
		}
		if sum += d; sum < 0 {
			return 0, errors.New("too long")
		}
	}
	if negative {
		sum = -sum
	}
	return sum, nil
}

// FormatDuration writes a duration as short as parseDuration reads it: 30d, 12h, 1h30m.
func FormatDuration(d time.Duration) string {
	if d <= 0 {
		return d.String()
	}
	var b strings.Builder
	if n := d / day; n > 0 {
		b.WriteString(strconv.FormatInt(int64(n), 10) + "d")
		d %= day
	}
	if d > 0 {
		text := d.String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		b.WriteString(text)
	}
	return b.String()
}
