package predicate

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func number(t *testing.T, s string) Number {
	t.Helper()
	n, ok := ParseNumber(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return n
}

func TestNumbersCompareExactly(t *testing.T) {
	ordered := []string{
		"-1e39", "-99999999999999999999999999999999999999", "-9223372036854775809", "-9223372036854775808", "-5.51", "-5.5", "-0.00001", "0", "1E-20",
		"0.1", "0.10000000000000000000000000001", "5.5", "9007199254740993", "9223372036854775807", "9223372036854775807.1", "9223372036854775808",
		"12345678901234567890123456789.123456789", "1e38",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			switch {
			case i < j && number(t, a).Cmp(number(t, b)) != 0:
				want = -1
			case i > j:
				want = 1
			}
			if i < j && want == 0 {
				t.Errorf("%s and %s are the same", a, b)
			}
			if got := number(t, a).Cmp(number(t, b)); got != want {
				t.Errorf("%s <> %s: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, pair := range [][2]string{{"1.50", "1.5"}, {"-0", "0"}, {"1e3", "1000"}, {"1.5E+2", "150.00"}, {"100e-2", "1"}, {"0e5", "0.000"}} {
		if number(t, pair[0]).Cmp(number(t, pair[1])) != 0 {
			t.Errorf("%s is not %s", pair[0], pair[1])
		}
	}
	for _, s := range []string{"", "-", ".", "1.2.3", "0x10", "NaN", "Infinity", "1e", "1e999999999", "--1", "1-2", "1 ", "1.-2", "1_000"} {
		if n, ok := ParseNumber(s); ok {
			t.Errorf("%q is %s", s, n)
		}
	}
}

// Numbers behave like math/big's, which are slow and surely right.
func TestNumbersAgreeWithRationals(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	text := func() string {
		var b strings.Builder
		if r.IntN(2) == 0 {
			b.WriteByte('-')
		}
		for range 1 + r.IntN(25) {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		if r.IntN(2) == 0 {
			b.WriteByte('.')
			for range 1 + r.IntN(12) {
				b.WriteByte(byte('0' + r.IntN(10)))
			}
		}
		return b.String()
	}
	for range 20_000 {
		a, b := text(), text()
		if r.IntN(8) == 0 {
			b = a + strings.Repeat("0", strings.Count(a, ".")*r.IntN(3))
		}
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if got := number(t, a).Cmp(number(t, b)); got != x.Cmp(y) {
			t.Fatalf("seed %d: %s <> %s: %d", seed, a, b, got)
		}
		back, _ := new(big.Rat).SetString(number(t, a).String())
		if back.Cmp(x) != 0 {
			t.Fatalf("seed %d: %s is written %s", seed, a, number(t, a))
		}
		f, _ := x.Float64() // what a writer that keeps decimals as floats makes of it
		rounded := new(big.Rat).SetFloat64(f)
		n := number(t, rounded.FloatString(40))
		if n.Widen(true).Cmp(number(t, a)) < 0 || n.Widen(false).Cmp(number(t, a)) > 0 {
			t.Fatalf("seed %d: %s is beyond what %v was widened to", seed, a, f)
		}
	}
}

func TestUnknownIsContagiousOnlyWhereItMustBe(t *testing.T) {
	x := []string{"s", "x"}
	a, b := Compare(Gt, x, Int(5)), Null([]string{"y"}, true)
	for _, c := range []struct {
		n    *Node
		want string
	}{
		{All(a, nil), "s.x > 5"},
		{All(a, &Node{}, b, All(a, b)), "(s.x > 5 AND y IS NULL AND s.x > 5 AND y IS NULL)"},
		{All(nil, nil), "unknown"},
		{Any(a, b, Any(a, b)), "(s.x > 5 OR y IS NULL OR s.x > 5 OR y IS NULL)"},
		{Any(a, nil), "unknown"},
		{Any(), "unknown"},
		{Any(b), "y IS NULL"},
		{OneOf(x), "unknown"},
		{OneOf(x, String("it's"), Bool(true), Date(-1), Timestamp(-1), Float(0.5)), "s.x IN ('it''s', true, DATE '1969-12-31', TIMESTAMP '1969-12-31 23:59:59.999999', 0.5)"},
		{Between(x, Int(1), Decimal(Number{small: -25, scale: 3})), "(s.x >= 1 AND s.x <= -0.025)"},
		{Null(x, false), "s.x IS NOT NULL"},
		{Compare(Prefix, x, String("ab")), "s.x STARTS WITH 'ab'"},
	} {
		if got := c.n.String(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	if got := All(a, Any(b, a)).Columns(); len(got) != 2 || got[1][0] != "y" {
		t.Error(got)
	}
}
