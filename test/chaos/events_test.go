package chaos

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"

	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// scored is the class of an event that nothing is wrong with; the others are
// the quarantine table's.
const scored = "scored"

// classOf says where an event must end up. It depends on the number alone, so
// that what a table holds can be judged without remembering what was sent.
func classOf(id int64) string {
	if id%50 != 17 {
		return scored
	}
	switch id / 50 % 5 {
	case 0, 1:
		return quarantine.ClassDecode
	case 2:
		return quarantine.ClassCheck
	case 3:
		return quarantine.ClassFeatures
	default:
		return quarantine.ClassScore
	}
}

// inputs of the model, small whole numbers so that float32 holds its output exactly.
func amountOf(id int64) int64 { return 1 + id%37 }
func unitsOf(id int64) int64  { return id % 11 }
func itemsOf(id int64) int64  { return id % 7 }

// scoreOf is what models/testdata/linear.onnx makes of an event.
func scoreOf(id int64) float64 {
	return float64(amountOf(id) + 10*itemsOf(id) + 100*unitsOf(id))
}

// lineOf is the event as the source has it, without a line's end.
func lineOf(id int64) []byte {
	amount, items, units := strconv.FormatInt(amountOf(id), 10), strconv.FormatInt(itemsOf(id), 10), strconv.FormatInt(unitsOf(id), 10)
	switch classOf(id) {
	case quarantine.ClassDecode:
		if id/50%5 == 1 {
			amount = `"a lot"` // not a number
		}
	case quarantine.ClassCheck:
		amount = "-" + amount
	case quarantine.ClassFeatures:
		units = "none" // does not cast
	case quarantine.ClassScore:
		items = "null" // the model takes no nulls
	}
	line := fmt.Appendf(nil, `{"id":%d,"amount":%s,"items":%s,"units":"%s","ts":"2026-03-01T12:%02d:%02d.%03dZ"}`,
		id, amount, items, units, id/60_000%60, id/1000%60, id%1000)
	if classOf(id) == quarantine.ClassDecode && id/50%5 == 0 {
		line = line[:len(line)/2] // cut off on its way
	}
	return line
}

var idPattern = regexp.MustCompile(`^\{"id":(\d+),`)

// idOf finds the number in an event's bytes, be they malformed or not.
func idOf(line []byte) (int64, error) {
	m := idPattern.FindSubmatch(line)
	if m == nil {
		return 0, fmt.Errorf("no event: %q", line)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// linesOf are the events from first on, one to a line.
func linesOf(first, n int64) []byte {
	var b bytes.Buffer
	for id := first; id < first+n; id++ {
		b.Write(lineOf(id))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// position is where a source has an event.
type position struct {
	source string // of a file only the path: its id has a hash of the content, too
	offset int64
}
