package connectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
)

// filesInput is the input that reads files and S3 prefixes; boundFiles is the same one
// as it is run: it knows which connector's it is, and where its rows land.
const (
	filesInput = "files"
	boundFiles = "tidemill_files"
)

// S3 says how to reach a bucket. What is empty is as for the project's own store, if
// the endpoint is.
type S3 struct {
	Bucket, Endpoint, Region string
	AccessKey                string
	SecretKey                secret.String
}

func filesSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads the rows of files and S3 objects, each exactly once.").
		Description("NDJSON, CSV, Parquet and Avro, plain or packed with gzip or zstd. New objects are found as they come; a local NDJSON file is followed as it grows. A row's position is its object and its number in it, and a restart goes on where the table ends: objects that are in are not opened again.").
		Fields(
			service.NewStringListField("paths").Description("Files, directories (with all below them), globs (`*`, `?`, `[…]` in a name; `**` for any number of directories), and the same in a bucket: `s3://bucket/prefix/`, `s3://bucket/logs/*/*.gz`. In directories and prefixes, names that begin with `.` or `_` are left out.").
				LintRule(`root = if this.length() == 0 { "name at least one path" }`),
			service.NewStringEnumField("format", "auto", "ndjson", "csv", "parquet", "avro").Description("`auto` goes by the name's ending (.ndjson, .jsonl, .json, .log, .csv, .tsv, .parquet, .avro, each also with .gz or .zst), else by how the object begins.").Default("auto"),
			service.NewStringField("poll").Description("How often to look for new objects; `off` to end when all is read.").Default("5s").
				LintRule(`root = if this != "off" && this.parse_duration().catch(0) <= 0 { "must be a duration, such as 5s, or off" }`),
			service.NewDurationField("still_for").Description("For how long a local file must not have changed to be taken for complete. Of NDJSON only a last line without its end waits.").Default("10s").Advanced(),
			service.NewIntField("parallel").Description("How many objects are read at a time.").Default(files.DefaultParallel).Advanced().
				LintRule(`root = if this < 1 || this > 64 { "must be between 1 and 64" }`),
			service.NewObjectField("csv",
				service.NewBoolField("header").Description("The first record has the names of the columns.").Default(true),
				service.NewStringListField("columns").Description("The names, where there is no header, or instead of it.").Default([]any{}),
				service.NewStringField("delimiter").Description("One character; by default a comma, and a tab for .tsv.").Default("").
					LintRule(`root = if this.length() > 1 { "must be one character" }`),
				service.NewStringField("null").Description("A field that is this text, without quotes, is null.").Default(""),
			).Description("How CSV files are written."),
			service.NewObjectField("s3",
				service.NewStringField("endpoint").Description("Such as https://s3.eu-central-1.amazonaws.com; by default the project's own store.").Default(""),
				service.NewStringField("region").Default(""),
				service.NewStringField("access_key").Description("By default that of the project's store, if endpoint is; else as the environment says (AWS_*).").Default(""),
				service.NewStringField("secret_key").Secret().Default(""),
			).Description("How s3:// paths are reached."),
		)
}

// boundFilesSpec is filesSpec with what Tidemill adds.
func boundFilesSpec() *service.ConfigSpec {
	return filesSpec().
		Field(service.NewStringField("connector")).
		Field(service.NewStringField("table")).
		Field(service.NewBoolField("blocks")).
		Field(service.NewIntField("max_row_bytes").Default(decode.DefaultMaxRowBytes))
}

// bindFiles tells a files input whose it is; key and conf are its node.
func (c *Config) bindFiles(key, conf *yaml.Node, processors bool) {
	if conf == nil || conf.Kind != yaml.MappingNode {
		return
	}
	key.Value = boundFiles
	setScalar(conf, "connector", c.Name, "!!str")
	setScalar(conf, "table", c.Table, "!!str")
	setScalar(conf, "blocks", fmt.Sprint(!processors), "!!bool")
	if n := child(child(child(c.root, "output"), "lakehouse"), "max_row_bytes"); n != nil {
		setScalar(conf, "max_row_bytes", n.Value, "!!int")
	}
}

type filesReader struct {
	connector, table string
	single           bool // messages are rows, for processors
	paths            []string
	s3               S3
	open             func(context.Context, S3) (files.Bucket, error)
	tables           Tables
	log              *slog.Logger

	mu     sync.Mutex
	config files.Config
	reader *files.Reader
}

// newFiles builds the input; only what is bound to a connector can run.
func newFiles(o Options) service.BatchInputConstructor {
	return func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
		f := &filesReader{open: o.OpenBucket, tables: o.Tables, log: o.Logger}
		if f.log == nil {
			f.log = slog.New(slog.DiscardHandler)
		}
		if err := f.configure(conf); err != nil {
			return nil, err
		}
		return f, nil
	}
}

// unboundFiles is what stands for the input where it is only linted.
func unboundFiles(*service.ParsedConfig, *service.Resources) (service.BatchInput, error) {
	return nil, errors.New("the files input must be run by tidemill, as the input of a connector")
}

func (f *filesReader) configure(conf *service.ParsedConfig) (err error) {
	p := &parsed{conf: conf}
	f.connector, f.table, f.single = p.str("connector"), p.str("table"), !p.bool("blocks")
	f.paths = p.strings("paths")
	f.s3 = S3{
		Endpoint: p.str("s3", "endpoint"), Region: p.str("s3", "region"),
		AccessKey: p.str("s3", "access_key"), SecretKey: secret.New(p.str("s3", "secret_key")),
	}
	f.config = files.Config{
		Format: files.Format(p.str("format")), Still: p.duration("still_for"), Parallel: p.int("parallel"), MaxRowBytes: p.int("max_row_bytes"),
		CSV:    files.CSVOptions{NoHeader: !p.bool("csv", "header"), Columns: p.strings("csv", "columns"), Null: p.str("csv", "null")},
		Logger: f.log.With("connector", f.connector),
	}
	poll, delimiter := p.str("poll"), p.str("csv", "delimiter")
	if err := p.err(); err != nil {
		return err
	}
	if poll != "off" {
		if f.config.Poll, err = time.ParseDuration(poll); err != nil || f.config.Poll <= 0 {
			return fmt.Errorf("poll: %q is neither off nor a duration such as 5s", poll)
		}
	}
	switch {
	case len(delimiter) > 1 || delimiter == `"` || delimiter == "\n" || delimiter == "\r":
		return fmt.Errorf("csv.delimiter: %q is not one character that can part fields", delimiter)
	case delimiter != "":
		f.config.CSV.Delimiter = delimiter[0]
	}
	if f.config.CSV.NoHeader && len(f.config.CSV.Columns) == 0 {
		return errors.New("csv.columns: without a header the columns need names; list them")
	}
	if (f.s3.AccessKey == "") != f.s3.SecretKey.Empty() {
		return errors.New("s3: give both access_key and secret_key, or neither")
	}
	return nil
}

// Connect finds the table and begins to look for objects.
func (f *filesReader) Connect(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reader != nil {
		return nil
	}
	l, err := f.tables.Landing(ctx, f.table)
	if err != nil {
		return fmt.Errorf("open table %s: %w", f.table, err)
	}
	c := f.config
	c.Schema = l.Contract.ArrowSchema()
	c.Claims = (&landedClaims{Landing: l, connector: f.connector}).of
	if c.Places, err = f.places(ctx); err != nil {
		return err
	}
	f.reader = files.New(c)
	return nil
}

func (f *filesReader) places(ctx context.Context) ([]files.Place, error) {
	buckets := map[string]files.Bucket{}
	var out []files.Place
	for _, path := range f.paths {
		name, rest, ok := files.SplitS3(path)
		if !ok {
			p, err := files.Local(path)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
			continue
		}
		b, ok := buckets[name]
		if !ok {
			if f.open == nil {
				return nil, fmt.Errorf("path %s: buckets cannot be reached here", path)
			}
			at := f.s3
			at.Bucket = name
			var err error
			if b, err = f.open(ctx, at); err != nil {
				return nil, fmt.Errorf("path %s: %w", path, err)
			}
			buckets[name] = b
		}
		p, err := files.InBucket(b, name, rest)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// ReadBatch hands over one block, or its rows. Nothing depends on the ack: what has
// landed is in the table's log, and what was rejected is handed out again by the wrapper.
func (f *filesReader) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	f.mu.Lock()
	r := f.reader
	f.mu.Unlock()
	if r == nil {
		return nil, nil, service.ErrNotConnected
	}
	b, err := r.Next(ctx)
	if errors.Is(err, io.EOF) {
		return nil, nil, service.ErrEndOfInput
	}
	if err != nil {
		return nil, nil, err
	}
	return f.messages(b), func(context.Context, error) error { return nil }, nil
}

func (f *filesReader) messages(b files.Block) service.MessageBatch {
	p := Position{Partition: b.Partition, Offset: b.First, PerRow: true, Rows: b.Rows, End: b.End}
	if b.Bad != nil {
		m := positioned(b.Data, p, b.Object)
		m.SetError(b.Bad)
		return service.MessageBatch{m.WithContext(context.WithValue(m.Context(), unreadKey{}, &unread{b.Bad.Rule, b.Bad.Message, b.Data}))}
	}
	if !f.single {
		return service.MessageBatch{positioned(b.Data, p, b.Object)}
	}
	out := make(service.MessageBatch, 0, b.Rows)
	row := b.First
	for line := range lines(b.Data) {
		// Blank lines travel too: one of them may be the last.
		if last := row == b.First+b.Rows-1; len(line) > 0 || last && b.End {
			out = append(out, positioned(line, Position{Partition: b.Partition, Offset: row, End: last && b.End}, b.Object))
		}
		row++
	}
	return out
}

func positioned(data []byte, p Position, object string) *service.Message {
	m := service.NewMessage(data)
	m.MetaSetMut("path", object)
	return position.Stamp(m, p)
}

// Close ends reading.
func (f *filesReader) Close(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reader != nil {
		f.reader.Close()
	}
	return nil
}

// landedClaims asks a table's logs what is in of a connector's partitions.
type landedClaims struct {
	*Landing
	connector string

	mu   sync.Mutex
	seen time.Time // when the log was last looked at for what other processes did
}

// lookAgain is how old the log may be that is asked. What is older costs work, not rows:
// they are left out when they land.
const lookAgain = time.Second

func (c *landedClaims) of(ctx context.Context, partition string) batch.Intervals {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.seen) > lookAgain {
		// An error is met again, and told of, by whoever lands rows.
		_, _ = c.Table.Refresh(ctx)
		c.seen = time.Now()
	}
	partition = c.connector + "/" + partition
	return c.Landed.Claims(partition).AddSet(c.Quarantine.Claims(partition))
}
