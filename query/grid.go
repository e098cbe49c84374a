package query

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/mattn/go-runewidth"
)

// GridOptions say how [WriteGrid] lays a result out.
type GridOptions struct {
	Width   int // of the terminal, in cells; 0: as wide as it gets
	MaxRows int // shown, the rest are counted; 0: all
}

const (
	columnGap  = "  "
	narrowest  = 6  // a column is not shrunk below this
	widestCell = 60 // nor wider than this while the terminal's width is bounded
)

// WriteGrid writes a result for people: a header, a line under it, a line per
// row, numbers to the right, then how many rows there are. What does not fit
// is cut with "…", narrow columns last; columns for which there is no room at
// all are named in the last line.
func WriteGrid(w io.Writer, r RecordReader, o GridOptions) error {
	g := &grid{o: o}
	for _, f := range r.Schema().Fields() {
		g.columns = append(g.columns, gridColumn{name: clean(f.Name), right: isNumber(f.Type)})
	}
	err := each(r, func(rec arrow.Record) error {
		for i := range int(rec.NumRows()) {
			g.rows++
			if o.MaxRows > 0 && len(g.cells) >= o.MaxRows {
				continue
			}
			row := make([]string, rec.NumCols())
			for c, col := range rec.Columns() {
				row[c] = "null"
				if col.IsValid(i) {
					row[c] = clean(showForPeople(col, i))
				}
			}
			g.cells = append(g.cells, row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	g.layOut()
	g.write(out)
	return out.Flush()
}

// showForPeople is showScalar, but for bytes that are text, such as the raw
// rows of quarantine tables: those are shown as such. Programs read bytes from
// JSON and CSV, which always have them in base64.
func showForPeople(a arrow.Array, i int) string {
	if b, ok := a.(*array.Binary); ok && utf8.Valid(b.Value(i)) {
		return string(b.Value(i))
	}
	return showScalar(a, i)
}

type grid struct {
	o       GridOptions
	columns []gridColumn
	cells   [][]string
	rows    int
	hidden  []string // names of columns without room
}

type gridColumn struct {
	name  string
	right bool
	width int
}

func isNumber(dt arrow.DataType) bool {
	switch dt.ID() {
	case arrow.INT64, arrow.INT32, arrow.FLOAT64, arrow.FLOAT32, arrow.DECIMAL128:
		return true
	}
	return false
}

// clean makes a value fit on one line and keeps terminals from obeying it.
func clean(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// layOut gives every column a width: what it needs, less what the terminal
// lacks, taken from the widest columns first.
func (g *grid) layOut() {
	for i := range g.columns {
		c := &g.columns[i]
		c.width = runewidth.StringWidth(c.name)
		for _, row := range g.cells {
			c.width = max(c.width, runewidth.StringWidth(row[i]))
		}
		if g.o.Width > 0 {
			c.width = min(c.width, max(widestCell, runewidth.StringWidth(c.name)))
		}
	}
	if g.o.Width <= 0 {
		return
	}
	for over := g.width() - g.o.Width; over > 0; over-- {
		i := g.widest()
		if g.columns[i].width <= narrowest {
			break
		}
		g.columns[i].width--
	}
	for g.width() > g.o.Width && len(g.columns) > 1 {
		last := len(g.columns) - 1
		g.hidden = append(g.hidden, g.columns[last].name)
		g.columns = g.columns[:last]
	}
	slices.Reverse(g.hidden)
}

func (g *grid) width() int {
	n := len(columnGap) * (len(g.columns) - 1)
	for _, c := range g.columns {
		n += c.width
	}
	return n
}

func (g *grid) widest() int {
	at := 0
	for i, c := range g.columns {
		if c.width > g.columns[at].width {
			at = i
		}
	}
	return at
}

func (g *grid) write(w *bufio.Writer) {
	names, rules := make([]string, len(g.columns)), make([]string, len(g.columns))
	for i, c := range g.columns {
		names[i], rules[i] = c.name, strings.Repeat("─", c.width)
	}
	g.line(w, names)
	g.line(w, rules)
	for _, row := range g.cells {
		g.line(w, row)
	}
	w.WriteString(g.summary())
}

func (g *grid) line(w *bufio.Writer, cells []string) {
	var b strings.Builder
	for i, c := range g.columns {
		if i > 0 {
			b.WriteString(columnGap)
		}
		s := runewidth.Truncate(cells[i], c.width, "…")
		pad := strings.Repeat(" ", max(0, c.width-runewidth.StringWidth(s)))
		if c.right {
			s = pad + s
		} else {
			s += pad
		}
		b.WriteString(s)
	}
	w.WriteString(strings.TrimRight(b.String(), " "))
	w.WriteByte('\n')
}

func (g *grid) summary() string {
	s := fmt.Sprintf("%d rows", g.rows)
	if g.rows == 1 {
		s = "1 row"
	}
	if shown := len(g.cells); shown < g.rows {
		s += fmt.Sprintf(", the first %d shown", shown)
	}
	if len(g.hidden) > 0 {
		s += fmt.Sprintf("; no room for %s", strings.Join(g.hidden, ", "))
	}
	return "(" + s + ")\n"
}
