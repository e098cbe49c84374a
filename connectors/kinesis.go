package connectors

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/connectors/kinesis"
	"github.com/tidemill/tidemill/internal/problem"
)

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
