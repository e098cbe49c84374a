package connectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/pgchanges"
	"github.com/tidemill/tidemill/connectors/position"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
)

// postgresChanges is the name of the input that reads PostgreSQL's logical replication.
const postgresChanges = "postgres_changes"

// ownerBlocks says whether rows may travel in blocks; set by Tidemill itself, as resumeFields are.
const ownerBlocks = "tidemill_blocks"

func postgresChangesSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Tidemill").
		Summary("Reads the changes of PostgreSQL tables by logical replication, after the rows that are there.").
		Description("A message is a row's columns and `cdc_op` (insert, update, delete, truncate, snapshot), `cdc_table`, `cdc_lsn` and `cdc_index` (their order), `cdc_time`, `cdc_old` and `cdc_unchanged`. The slot and the publication are created if they are missing. What the table's log has is confirmed to the server, which removes its WAL only then.").
		Field(service.NewStringField("dsn").Secret().Description("Where the database is: postgres://user:password@host:5432/database. The user needs the attribute REPLICATION, and SELECT on the tables.")).
		Field(service.NewStringField("slot").Description("The replication slot: one for each connector. It keeps WAL on the server while the connector is away.")).
		Field(service.NewStringField("publication").Default("").Description("The publication; by default named as the slot is.")).
		Field(service.NewStringListField("tables").Description("schema.table, or table for one of the schema public.")).
		Field(service.NewBoolField("snapshot").Default(true).Description("Read the rows that are there when the slot is created, before the changes.")).
		Field(service.NewStringListField("include").Default([]any{"insert", "update", "delete"}).Description("Which changes become rows: insert, update, delete, truncate.")).
		Field(service.NewBoolField("json_as_text").Default(false).Description("Values of json and jsonb as strings, for columns of type string.")).
		Field(service.NewIntField("page_rows").Default(10_000).Description("Rows of a page of the snapshot.").Advanced()).
		Field(service.NewIntField("batch_rows").Default(1000).Description("Changes that are handed over at once, at most.").Advanced()).
		Field(service.NewAutoRetryNacksToggleField()).
		Field(service.NewBoolField(ownerBlocks).Description("Set by Tidemill itself.").Default(true).Advanced()).
		Fields(resumeFields()...)
}

// changesInput hands out what a pgchanges.Source has, and opens another when it fails.
type changesInput struct {
	conf pgchanges.Config
	log  *resumer

	mu   sync.Mutex
	src  *pgchanges.Source // guarded by mu; nil: not connected
	page chan struct{}     // guarded by mu; closed when the last page of the snapshot was acked
}

func newPostgresChanges(tables Tables, log *slog.Logger) service.BatchInputConstructor {
	return func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
		in := &changesInput{conf: pgchanges.Config{Log: log}}
		var err error
		if in.log, err = newResumer(conf, tables); err != nil {
			return nil, err
		}
		if err := in.read(conf); err != nil {
			return nil, err
		}
		in.conf.At = func(ctx context.Context, partition string) (pgchanges.Standing, error) {
			s, err := in.log.at(ctx, partition)
			return pgchanges.Standing{Found: s.Found, Offset: s.Offset, Cursor: s.Text, In: s.In}, err
		}
		in.conf.Pages = in.log.pages
		return service.AutoRetryNacksBatchedToggled(conf, in)
	}
}

func (in *changesInput) read(conf *service.ParsedConfig) error {
	c := &in.conf
	dsn, err := conf.FieldString("dsn")
	if err != nil {
		return err
	}
	c.DSN = secret.New(dsn)
	var include []string
	for name, to := range map[string]*string{"slot": &c.Slot, "publication": &c.Publication} {
		if *to, err = conf.FieldString(name); err != nil {
			return err
		}
	}
	for name, to := range map[string]*[]string{"tables": &c.Tables, "include": &include} {
		if *to, err = conf.FieldStringList(name); err != nil {
			return err
		}
	}
	for name, to := range map[string]*bool{"snapshot": &c.Snapshot, "json_as_text": &c.JSONAsText, ownerBlocks: &c.Lines} {
		if *to, err = conf.FieldBool(name); err != nil {
			return err
		}
	}
	for name, to := range map[string]*int{"page_rows": &c.PageRows, "batch_rows": &c.BatchRows} {
		if *to, err = conf.FieldInt(name); err != nil {
			return err
		}
	}
	for _, op := range include {
		c.Include = append(c.Include, pgchanges.Op(op))
	}
	for _, p := range changesProblems(c.Slot, c.Tables, include) {
		err = errors.Join(err, fmt.Errorf("%s: %s", p.field, p.text))
	}
	return err
}

// fieldProblem is what is wrong with a field of an input.
type fieldProblem struct {
	field string
	index int // of an element, -1: the field itself
	value string
	text  string
}

func changesProblems(slot string, tables, include []string) (out []fieldProblem) {
	if p := pgchanges.CheckSlot(slot); p != "" {
		out = append(out, fieldProblem{"slot", -1, slot, p})
	}
	if len(tables) == 0 {
		out = append(out, fieldProblem{"tables", -1, "", "missing; name the tables whose changes are to be read, for example `tables: [public.orders]`"})
	}
	for i, t := range tables {
		if p := pgchanges.CheckTable(t); p != "" {
			out = append(out, fieldProblem{"tables", i, t, p})
		}
	}
	for i, op := range include {
		if p := pgchanges.CheckOp(op); p != "" {
			out = append(out, fieldProblem{"include", i, op, p})
		}
	}
	return out
}

// Connect opens a source, unless a page of the one before is still on its way: it would
// be read a second time.
func (in *changesInput) Connect(ctx context.Context) error {
	in.mu.Lock()
	page := in.page
	in.mu.Unlock()
	if page != nil {
		select {
		case <-page:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	src, err := pgchanges.Open(ctx, in.conf)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.src = src
	return nil
}

func (in *changesInput) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	in.mu.Lock()
	src := in.src
	in.mu.Unlock()
	if src == nil {
		return nil, nil, service.ErrNotConnected
	}
	b, err := src.Next(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		in.conf.Log.Warn("connection to PostgreSQL is lost; it is opened again", slog.String("slot", in.conf.Slot), slog.Any("error", err))
		in.drop(src)
		return nil, nil, service.ErrNotConnected
	}
	acked := func() {}
	if b.Page {
		page := make(chan struct{})
		acked = sync.OnceFunc(func() { close(page) })
		in.mu.Lock()
		in.page = page
		in.mu.Unlock()
	}
	msgs := make(service.MessageBatch, len(b.Rows))
	for i, r := range b.Rows {
		msgs[i] = position.Stamp(service.NewMessage(r.Data), position.Position{
			Partition: r.Partition, Offset: r.Offset, PerRow: r.Rows > 1, Rows: int64(r.Rows), Void: r.Void, Sparse: r.Sparse, Cursor: r.Cursor,
		})
	}
	return msgs, func(_ context.Context, err error) error {
		if err == nil {
			acked()
			b.Ack()
		}
		return nil
	}, nil
}

func (in *changesInput) drop(src *pgchanges.Source) {
	src.Close()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.src == src {
		in.src = nil
	}
}

func (in *changesInput) Close(context.Context) error {
	in.mu.Lock()
	src := in.src
	in.src = nil
	in.mu.Unlock()
	if src != nil {
		src.Close()
	}
	return nil
}

// postgresProblems finds what postgres_changes inputs lack or cannot take.
func postgresProblems(c *Config) (ps problem.List) {
	slots := map[string]bool{}
	walk(c.root, func(key, value *yaml.Node) {
		if key.Value != postgresChanges || value.Kind != yaml.MappingNode {
			return
		}
		at := "input." + postgresChanges
		slot := child(value, "slot")
		name := ""
		if slot != nil {
			name = slot.Value
		}
		for _, p := range changesProblems(name, texts(child(value, "tables")), texts(child(value, "include"))) {
			if strings.Contains(p.value, "${") {
				continue // known when it runs
			}
			field := child(value, p.field)
			line := lineOf(field, key)
			if p.index >= 0 {
				line = lineOf(field.Content[p.index], key)
			}
			ps.Addf(c.File, line, at+"."+p.field, "%s", p.text)
		}
		if name != "" && slots[name] {
			ps.Addf(c.File, slot.Line, at+".slot", "%s is the slot of another input; give each its own, for only one can read a slot", name)
		}
		slots[name] = true
		for _, own := range []string{ownerConnector, ownerTable, ownerBlocks} {
			if n := child(value, own); n != nil {
				ps.Addf(c.File, n.Line, at+"."+own, "is set by tidemill itself; remove it")
			}
		}
	})
	return ps
}

// texts are the scalars of a list.
func texts(n *yaml.Node) []string {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]string, len(n.Content))
	for i, c := range n.Content {
		out[i] = c.Value
	}
	return out
}
