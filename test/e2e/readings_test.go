package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/test/product"
)

// reading is a row of a CSV file of the shared data.
type reading struct {
	N         int64   `json:"n"`
	Timestamp string  `json:"timestamp"`
	Value     float64 `json:"value"`
}

// readings reads a series and the windows that experts labelled in it. The
// project does not contain the data.
func readings(t *testing.T, name string) ([]reading, [][2]string) {
	t.Helper()
	dir := filepath.Join(product.Root(), "..", "shared", "data")
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("real readings are not here: %v; put the Numenta Anomaly Benchmark's %s and anomaly_windows.json there", err, name)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []reading
	for i, l := range lines[1:] {
		v, err := strconv.ParseFloat(l[1], 64)
		if err != nil {
			t.Fatalf("line %d: %v", i+2, err)
		}
		rows = append(rows, reading{int64(i), l[0], v})
	}
	data, err := os.ReadFile(filepath.Join(dir, "anomaly_windows.json"))
	if err != nil {
		t.Skipf("real readings are not here: %v", err)
	}
	var windows map[string][][2]string
	if err := json.Unmarshal(data, &windows); err != nil {
		t.Fatal(err)
	}
	return rows, windows[name]
}

// TestMachineTemperature lets a model score two and a half months of a real
// machine's temperature, its failure included.
func TestMachineTemperature(t *testing.T) {
	rows, windows := readings(t, "machine_temperature.csv")
	d := dev(t)
	var g errgroup.Group
	g.SetLimit(4)
	twice := 0
	for i, part := range slices.Collect(slices.Chunk(rows, 500)) {
		var body bytes.Buffer
		enc := json.NewEncoder(&body)
		for _, r := range part {
			if err := enc.Encode(r); err != nil {
				t.Fatal(err)
			}
		}
		key, times := "", 1
		if i%3 == 0 {
			key, times = fmt.Sprintf("readings-%d", i), 2
			twice += len(part)
		}
		for range times {
			g.Go(func() error {
				code, err := product.Post(t.Context(), d.HTTP+"/readings", key, body.Bytes())
				if err == nil && code != 200 {
					err = fmt.Errorf("status %d", code)
				}
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	total := int64(len(rows))
	d.count(t, total, "SELECT count(*) AS n FROM readings")
	d.count(t, total, "SELECT count(*) AS n FROM readings_scored")
	d.count(t, 0, "SELECT count(*) AS n FROM readings_quarantine")

	scored := product.Query[struct {
		N       int64
		Value   float64
		Anomaly float64
	}](t, d.binary, d.dir, "SELECT n, value, anomaly FROM readings_scored ORDER BY n")
	var inside, outside []float64
	for i, s := range scored {
		r := rows[i]
		if s.N != r.N || s.Value != r.Value {
			t.Fatalf("row %d is scored as %+v, want %+v", i, s, r)
		}
		in := slices.ContainsFunc(windows, func(w [2]string) bool {
			return w[0][:len(r.Timestamp)] <= r.Timestamp && r.Timestamp <= w[1][:len(r.Timestamp)]
		})
		if in {
			inside = append(inside, s.Anomaly)
		} else {
			outside = append(outside, s.Anomaly)
		}
	}
	auc := rank(inside, outside)
	t.Logf("%d rows, %d of them sent twice; labelled anomalous %d: mean %.2f, median %.2f; the rest %d: mean %.2f, median %.2f; AUC %.3f",
		total, twice, len(inside), mean(inside), median(inside), len(outside), mean(outside), median(outside), auc)
	if len(inside) == 0 || mean(inside) <= mean(outside) || median(inside) <= median(outside) || auc < 0.7 {
		t.Error("the labelled windows do not score higher than the rest")
	}
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// rank is the probability that a random one of high is above a random one of
// low, ties counting half: the area under the ROC curve.
func rank(high, low []float64) float64 {
	s := slices.Sorted(slices.Values(low))
	sum := 0
	for _, x := range high {
		below := sort.SearchFloat64s(s, x)
		upTo := sort.Search(len(s), func(i int) bool { return s[i] > x })
		sum += below + upTo
	}
	return float64(sum) / 2 / float64(len(high)) / float64(len(low))
}
