package activities

import (
	"fmt"
	"testing"

	"github.com/tidemill/tidemill/lakehouse"
)

func TestPiecesCutOnlyLargeFiles(t *testing.T) {
	const k = 1 << 10
	for _, c := range []struct {
		files []int64
		want  string // rows of each piece's segments
	}{
		{nil, "[]"},
		{[]int64{100, 200}, "[[100 200]]"},
		{[]int64{20 * k, 20 * k, 20 * k}, "[[20480 20480] [20480]]"},
		{[]int64{k, 60 * k, k}, "[[1024] [61440] [1024]]"},
		{[]int64{40 * k, 40 * k}, "[[40960] [40960]]"},
		{[]int64{70 * k}, "[[32768] [38912]]"},
		{[]int64{0, 5, 0}, "[[5]]"},
		{[]int64{10 * k, 130 * k}, "[[10240 32768] [32768] [32768] [34816]]"},
	} {
		var segments []segment
		for i, n := range c.files {
			segments = append(segments, segment{file: lakehouse.File{Path: fmt.Sprint(i)}, to: n})
		}
		rows := [][]int64{}
		next := map[string]int64{}
		for _, piece := range pieces(segments) {
			var in []int64
			for _, s := range piece {
				if s.from != next[s.file.Path] {
					t.Errorf("%v: a piece begins at row %d of file %s, not %d", c.files, s.from, s.file.Path, next[s.file.Path])
				}
				next[s.file.Path] = s.to
				in = append(in, s.to-s.from)
			}
			rows = append(rows, in)
		}
		if got := fmt.Sprint(rows); got != c.want {
			t.Errorf("%v: pieces %s, want %s", c.files, got, c.want)
		}
		for i, n := range c.files {
			if next[fmt.Sprint(i)] != n {
				t.Errorf("%v: %d rows of file %d", c.files, next[fmt.Sprint(i)], i)
			}
		}
	}
}
