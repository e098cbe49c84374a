package connectors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/problem"
)

func TestPrepared(t *testing.T) {
	for name, c := range map[string]struct{ in, want, absent []string }{
		"file rows travel in blocks": {
			in:     []string{"input:", "  file: {paths: [a.ndjson]}"},
			want:   []string{"tidemill_source:", "kind: file", "replay: true", "auto_replay_nacks: false", "tidemill_rows:", "blocks: true"},
			absent: nil,
		},
		"with processors one by one": {
			in:   []string{"input:", "  file: {paths: [a.ndjson], scanner: {lines: {}}}", "pipeline: {processors: [{mapping: root = this}]}"},
			want: []string{"tidemill_rows:", "blocks: false"}, absent: []string{"lines:"},
		},
		"compressed": {
			in:   []string{"input:", "  file: {paths: [a.gz], scanner: {decompress: {algorithm: gzip, into: {lines: {}}}}}"},
			want: []string{"decompress:", "tidemill_rows:"}, absent: []string{"lines:"},
		},
		"csv keeps its scanner": {
			in:   []string{"input:", "  file: {paths: [a.csv], scanner: {csv: {}}}"},
			want: []string{"csv:"}, absent: []string{"tidemill_rows"},
		},
		"http answers for itself": {
			in:   []string{"input:", "  http_server: {path: /x}"},
			want: []string{"kind: http_server", "replay: false"}, absent: []string{"auto_replay_nacks"},
		},
		"kafka hands over batches": {
			in:   []string{"input:", "  kafka_franz: {topics: [a]}"},
			want: []string{"checkpoint_limit: 100000", "count: 2000", "period: 10ms", "session_timeout: 10s"},
		},
		"unless it is told how": {
			in:   []string{"input:", "  kafka_franz: {topics: [a], checkpoint_limit: 7, session_timeout: 45s, batching: {count: 3}}"},
			want: []string{"checkpoint_limit: 7", "count: 3", "session_timeout: 45s"}, absent: []string{"100000", "10ms", "10s"},
		},
		"each input of a broker": {
			in:   []string{"input:", "  broker: {inputs: [{kafka_franz: {topics: [a]}}, {generate: {mapping: root = 1}}]}"},
			want: []string{"broker:", "kind: kafka_franz", "kind: generate"}, absent: []string{"kind: broker"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := strings.Join(append(c.in, "output: {lakehouse: {table: t}}"), "\n")
			conf, err := ParseConfig("connectors/in.yaml", []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			got, err := conf.prepared()
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in\n%s", w, got)
				}
			}
			for _, w := range c.absent {
				if strings.Contains(got, w) {
					t.Errorf("%q in\n%s", w, got)
				}
			}
		})
	}
}

// TestLintProblems runs the linter over testdata/lint: each file holds the
// problems it expects in comments, `# want: line: text`.
func TestLintProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/lint/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.SplitSeq(string(src), "\n") {
				if w, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, w)
				}
			}
			c, err := ParseConfig("c.yaml", src)
			ps := problem.Of(err)
			if c != nil {
				ps.Add(e.Lint(c, []string{"orders"})...)
			}
			if len(ps) != len(want) {
				t.Errorf("%d problems, want %d", len(ps), len(want))
			}
			for i, p := range ps {
				if i >= len(want) || !strings.HasPrefix(p.Error(), "c.yaml:"+want[i]) {
					t.Errorf("problem %q", p.Error())
				}
			}
		})
	}
}

func TestSharedPaths(t *testing.T) {
	parse := func(name, input string) *Config {
		c, err := ParseConfig(name, []byte("input:\n  http_server: "+input+"\noutput: {lakehouse: {table: t}}"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := parse("a.yaml", "{path: /x}"), parse("b.yaml", "{path: /x}")
	own := parse("c.yaml", "{path: /x, address: '127.0.0.1:1'}")
	if ps := SharedPaths([]*Config{a, own}); len(ps) != 0 {
		t.Fatalf("an address of its own: %v", ps)
	}
	ps := SharedPaths([]*Config{a, b})
	if len(ps) != 1 || !strings.Contains(ps[0].Error(), "b.yaml:2: input.http_server.path: /x is taken by connector a") {
		t.Fatalf("got %v", ps)
	}
}
