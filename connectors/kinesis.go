package connectors

import (
	"math/big"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/kinesis"
	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/problem"
)

// A sequence number of Kinesis is 47 hexadecimal digits, which stand, from the left,
// for: 2; the second in which the shard was made (9) and the last digit of its number (1); a
// counter of the shard (16, the first at most 7); a byte; a time in seconds (9);
// the shard's number (8); the version, 2. The counter grows with every record, by one
// within a PutRecords and by more between. So it is the offset, and what stands before
// it goes into the partition's name: it is another one for a shard of a stream that
// was made anew.
const (
	kinesisDigits  = 47
	kinesisCounter = 11 // where the counter begins
	kinesisTail    = 27 // where it ends
)

// kinesisOffset takes a sequence number apart: what it has of the shard, and the counter.
// It refuses those that are not written as above.
func kinesisOffset(sequence string) (shard string, offset int64, ok bool) {
	n, ok := new(big.Int).SetString(sequence, 10)
	if !ok {
		return "", 0, false
	}
	hex := n.Text(16)
	if len(hex) != kinesisDigits || hex[0] != '2' || hex[kinesisDigits-1] != '2' {
		return "", 0, false
	}
	offset, err := strconv.ParseInt(hex[kinesisCounter:kinesisTail], 16, 64)
	if err != nil {
		return "", 0, false
	}
	return hex[1:kinesisCounter], offset, true
}

// kinesisPositioner reads stream, shard and sequence number from the metadata. A shard
// is read in order, by whoever has its lease and from what was acked last, so nothing lies between
// two records.
//
// How sequence numbers are built is what one sees, not what AWS promises. So the counter
// is checked against the record before: where it does not grow, and for numbers that are
// built otherwise, the whole number is an idempotency key.
func kinesisPositioner(connector string) Positioner {
	type key struct{ stream, shard, made string }
	type reader struct {
		id   string
		last string // sequence number
		at   int64
		pos  position.Follower
	}
	readers := map[key]*reader{}
	return positionFunc(func(m *service.Message) (Position, bool) {
		stream, ok := m.MetaGet("kinesis_stream")
		shard, ok2 := m.MetaGet("kinesis_shard")
		sequence, ok3 := m.MetaGet("kinesis_sequence_number")
		if !ok || !ok2 || !ok3 {
			return Position{}, false
		}
		made, at, ok := kinesisOffset(sequence)
		k := key{stream, shard, made}
		r := readers[k]
		if r == nil {
			r = &reader{id: connector + "/" + stream + "/" + shard + "@" + made, at: -1}
			readers[k] = r
		}
		if !ok || at == r.at && sequence != r.last {
			r.pos.Restart()
			return Position{Partition: "#" + connector + "/" + stream + "/" + shard + "/" + sequence, PerRow: true}, true
		}
		r.last, r.at = sequence, at
		return Position{Partition: r.id, Offset: at, Void: r.pos.Next(at), Sparse: true}, true
	})
}

// awsKinesis is the name of the input that reads streams of AWS Kinesis.
const awsKinesis = "aws_kinesis"

// kinesisProblems finds what is wrong with aws_kinesis inputs, as far as it is known before
// they run.
func kinesisProblems(c *Config) (ps problem.List) {
	walk(child(c.root, "input"), func(key, value *yaml.Node) {
		if key.Value != awsKinesis || value.Kind != yaml.MappingNode {
			return
		}
		text, err := yaml.Marshal(deepCopy(value))
		if err != nil {
			return // of what was read as YAML
		}
		conf, err := kinesis.Spec().ParseYAML(string(text), nil)
		if err != nil {
			return // Benthos' own linter says what is no config at all
		}
		for _, p := range kinesis.Problems(conf) {
			at := key
			filled := false // known when it runs
			n := value
			for field := range strings.SplitSeq(p.Field, ".") {
				if n = child(n, field); n == nil {
					break
				}
				at = n
			}
			if n != nil {
				eachScalar(n, "", func(_ string, s *yaml.Node) { filled = filled || strings.Contains(s.Value, "${") })
			}
			if !filled {
				ps.Addf(c.File, lineOf(at, key), "input."+awsKinesis+"."+p.Field, "%s", p.Message)
			}
		}
	})
	return ps
}
