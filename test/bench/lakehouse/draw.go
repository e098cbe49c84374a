package main

import (
	"bytes"
	"fmt"
	"math"
)

// The drawing has four charts, two by two, over one logarithmic axis of commits.
const (
	chartW, chartH = 400, 190
	gapX, gapY     = 90, 84
	left, top      = 64, 128
	width          = left + 2*chartW + gapX + 40
	height         = top + 2*chartH + gapY + 60
)

// curve is a line in a chart.
type curve struct {
	name, color string
	dashed      bool
	of          func(point) float64
}

type chart struct {
	title  string
	unit   string
	curves []curve
}

// Colors that are told apart by eyes that see red and green alike.
const (
	blue, orange = "#0369a1", "#c2410c"
)

var charts = []chart{
	{"Commit", "ms", []curve{
		{"p99", blue, false, func(p point) float64 { return ms(p.busy.p99) }},
		{"p50", blue, true, func(p point) float64 { return ms(p.busy.p50) }},
		{"p99 without maintenance", orange, false, func(p point) float64 { return ms(p.idle.p99) }},
		{"p50 without", orange, true, func(p point) float64 { return ms(p.idle.p50) }},
	}},
	{"Refresh: a reader sees a new commit", "ms", []curve{
		{"p99", blue, false, func(p point) float64 { return ms(p.refresh.p99) }},
		{"p50", blue, true, func(p point) float64 { return ms(p.refresh.p50) }},
	}},
	{"Cold open", "ms", []curve{
		{"longest", blue, false, func(p point) float64 { return ms(p.open.max) }},
		{"p50", blue, true, func(p point) float64 { return ms(p.open.p50) }},
	}},
	{"Memory of the writer, per table", "MiB", []curve{
		{"heap", blue, false, func(p point) float64 { return mib(p.heap) }},
	}},
}

// draw makes an SVG that brings its own background, so that it reads on any page.
func (r *grown) draw() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, 'DejaVu Sans', sans-serif" role="img" aria-labelledby="t d">
  <title id="t">A table over its first %s commits</title>
  <desc id="d">Time of commits, of refreshes and of cold opens, and the writer's memory, by the number of commits, with checkpoints, compaction, clean-up and vacuum running.</desc>
  <style>.h{font-size:20px;font-weight:600;fill:#0f172a} .t{font-size:15px;font-weight:600;fill:#0f172a} .s{font-size:12px;fill:#475569} .g{stroke:#e2e8f0} .a{stroke:#94a3b8} .l{fill:none;stroke-width:2.25;stroke-linejoin:round}</style>
  <rect width="%d" height="%d" rx="12" fill="#f8fafc"/>
`, width, height, count(r.points[len(r.points)-1].commits), width, height)
	fmt.Fprintf(&b, `  <text class="h" x="%d" y="40">A table over its first %s commits</text><text class="s" x="%d" y="64">one writer, %d rows a commit, object store: %s; checkpoints, compaction, clean-up and vacuum beside it</text>`+"\n",
		left, count(r.points[len(r.points)-1].commits), left, growthRows, r.store)
	for i, c := range charts {
		r.chart(&b, c, left+i%2*(chartW+gapX), top+i/2*(chartH+gapY))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// chart draws one chart with its upper left corner at x, y.
func (r *grown) chart(b *bytes.Buffer, c chart, x, y int) {
	most := 0.0
	for _, p := range r.points {
		for _, cv := range c.curves {
			most = max(most, cv.of(p))
		}
	}
	step := nice(most / 4)
	full := step * math.Ceil(most/step+1e-9)
	lo, hi := math.Log10(float64(r.points[0].commits)), math.Log10(float64(r.points[len(r.points)-1].commits))
	px := func(n int64) float64 {
		if hi == lo {
			return float64(x)
		}
		return float64(x) + float64(chartW)*(math.Log10(float64(n))-lo)/(hi-lo)
	}
	py := func(v float64) float64 { return float64(y+chartH) - float64(chartH)*v/full }
	fmt.Fprintf(b, `  <text class="t" x="%d" y="%d">%s, %s</text>`+"\n", x, y-24, c.title, c.unit)
	for v := 0.0; v <= full+step/2; v += step {
		fmt.Fprintf(b, `  <path class="g" d="M%d %.1fh%d"/><text class="s" x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n", x, py(v), chartW, x-8, py(v)+4, round(v))
	}
	for _, p := range r.points {
		fmt.Fprintf(b, `  <path class="a" d="M%.1f %dv5"/>`, px(p.commits), y+chartH)
		if n := nearest(p.commits); n == 1 {
			fmt.Fprintf(b, `<text class="s" x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(p.commits), y+chartH+20, count(p.commits))
		}
		b.WriteByte('\n')
	}
	key := x
	for _, cv := range c.curves {
		dash := ""
		if cv.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		fmt.Fprintf(b, `  <path class="l" stroke="%s"%s d="`, cv.color, dash)
		for i, p := range r.points {
			fmt.Fprintf(b, "%c%.1f %.1f", "ML"[min(i, 1)], px(p.commits), py(cv.of(p)))
		}
		fmt.Fprintf(b, `"/><path class="l" stroke="%s"%s d="M%d %dh22"/><text class="s" x="%d" y="%d">%s</text>`+"\n", cv.color, dash, key, y-10, key+27, y-6, cv.name)
		key += 27 + 7*len(cv.name) + 18
	}
}

// nice is the next of 1, 2, 5, 10, 20 … that is not less.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= v {
			return f * unit
		}
	}
	return 10 * unit
}

func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

// nearest is the first digit of a count that is about a round number.
func nearest(n int64) int {
	f := float64(n) / math.Pow(10, math.Floor(math.Log10(float64(n))))
	return int(math.Round(f))
}

// count is a number as people say it: 1k, 100k.
func count(n int64) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%gM", math.Round(float64(n)/1e5)/10)
	case n >= 1000:
		return fmt.Sprintf("%dk", int64(math.Round(float64(n)/1000)))
	}
	return fmt.Sprint(n)
}
