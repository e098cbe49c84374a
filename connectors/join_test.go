package connectors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
)

func kafkaMessage(partition int, offset int64, value string) *service.Message {
	m := service.NewMessage([]byte(value))
	m.MetaSetMut("kafka_topic", "t")
	m.MetaSetMut("kafka_partition", partition)
	m.MetaSetMut("kafka_offset", int(offset))
	return m
}

// decodedRows are the rows of messages as the output takes them in: each with its position,
// as it decoded or with the rule that turned it away.
func decodedRows(t *testing.T, s *source, msgs service.MessageBatch) (out []string) {
	t.Helper()
	c, err := contract.Parse("tables/t.yaml", []byte("table: t\ncolumns:\n  - {name: id, type: long, required: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := decode.NewPlan(c.ArrowSchema(), decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		p, ok := position.Of(m)
		if ok {
			p.Partition = s.named(p.Partition)
		} else if p, ok = s.position.Position(m); !ok {
			t.Fatal("a message without a position")
		}
		data, err := m.AsBytes()
		if err != nil {
			t.Fatal(err)
		}
		d := plan.NewDecoder(memory.DefaultAllocator)
		if err := d.Message(data, decode.Position{Partition: p.Partition, First: p.Offset, PerRow: p.PerRow}); err != nil {
			t.Fatal(err)
		}
		rec, runs, bad := d.Flush()
		ids, row := rec.Column(rec.Schema().FieldIndices("id")[0]).(*array.Int64), 0
		for _, r := range runs {
			for i := range r.Rows {
				out = append(out, fmt.Sprint(r.Partition, " ", r.Offset(i), " id ", ids.Value(row)))
				row++
			}
		}
		for _, b := range bad {
			out = append(out, fmt.Sprint(b.Partition, " ", b.Offset, " ", b.Rule, " ", string(b.Raw)))
		}
		rec.Release()
	}
	slices.Sort(out)
	return out
}

// TestJoin holds blocks to what their messages are one by one: the same rows at the same
// positions, whatever the records are and wherever offsets are missing.
func TestJoin(t *testing.T) {
	values := []string{
		`{"id": %d}`, `{"id": %d}`, `{"id": %d}`, `{"id": %d}`, `{"id": %d, "x": {"y": [1, 2]}}`, `[{"id": %d}, {"id": 7}]`, "{\"id\":\n%d}", "{\"id\": %d}\n{\"id\": 8}",
		`{"id": "%d"}`, `{"id": %d`, `{"id": %d}}`, `{"a": "}`, `{","id": %d}`, `{"a": {"id": %d}`, `{"a": [{}`, ``, ` {"id": %d}`, `null`, `{}`, `}{`, `{"id": %d} `,
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := &source{connector: "c", position: kafkaPositioner("c"), names: map[string]string{}}
		next := [2]int64{r.Int64N(100), r.Int64N(100)}
		var msgs service.MessageBatch
		for range 1 + r.IntN(60) {
			p := 0
			if r.IntN(10) == 0 {
				p = 1
			}
			if r.IntN(15) == 0 {
				next[p] += 1 + r.Int64N(3)
			}
			v := values[r.IntN(len(values))]
			if n := r.IntN(3); n > 0 {
				v = values[0]
			}
			if slices.Contains([]byte(v), '%') {
				v = fmt.Sprintf(v, r.IntN(1000))
			}
			msgs = append(msgs, kafkaMessage(p, next[p], v))
			next[p]++
		}
		want := decodedRows(t, s, slices.Clone(msgs))
		blocks := s.join(slices.Clone(msgs))
		if got := decodedRows(t, s, blocks); !slices.Equal(got, want) {
			t.Fatalf("seed %d: in %d blocks\n%q\none by one\n%q", seed, len(blocks), got, want)
		}
		for _, m := range blocks {
			if p, ok := position.Of(m); ok && (!batch.Durable(p.Partition) || p.Rows < 2 || !p.PerRow) {
				t.Errorf("seed %d: a block at %+v", seed, p)
			}
		}
	}
}
