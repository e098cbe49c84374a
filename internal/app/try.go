package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/connectors/files"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/ortlib"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/query"
)

// TryOptions of [Try].
type TryOptions struct {
	File     string        // the connector
	Rows     int           // to read at most
	Within   time.Duration // how long to wait for them
	Progress io.Writer     // for people: what is waited for; may be nil
	Logger   *slog.Logger
}

// Tried is what [Try] saw.
type Tried struct {
	Connector   string   `json:"connector"`
	Table       string   `json:"table"`
	Input       string   `json:"input"`
	Looked               // nothing of it was kept
	Landed      int      `json:"landed"`           // rows that would land and pass
	Quarantined int      `json:"quarantined"`      // rows that would go to the quarantine table
	Waited      string   `json:"waited,omitempty"` // when there are fewer rows than asked for: why
	Notes       []string `json:"notes,omitempty"`  // what reading left behind, what was not looked at
}

// Try runs a connector's real input for a look: what would land, what would be
// quarantined and why. Nothing is acked, landed or kept. The connector's file lies
// in the connectors/ of a project, whose contract and model are used.
func Try(ctx context.Context, o TryOptions) (*Tried, error) {
	t, err := openTrial(o.File, true)
	if err != nil {
		return nil, err
	}
	defer t.back()
	engine, err := query.Open(query.Options{})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	l, err := newLook(ctx, engine, t.contract)
	if err != nil {
		return nil, err
	}
	defer l.close()
	out := &Tried{Connector: t.config.Name, Table: t.config.Table, Input: t.config.Input}
	if score := t.contract.Score(); score != nil {
		local, err := localModelOf(t.project, score)
		if err != nil {
			return nil, err
		}
		note, err := l.load(ctx, local, o.Logger)
		if err != nil {
			return nil, err
		}
		if note != "" {
			out.Notes = append(out.Notes, note)
		}
	}
	s, err := t.sample(ctx, o)
	if err != nil {
		return nil, err
	}
	out.Notes = append(out.Notes, s.Notes...)
	out.Waited = waited(t.config, s, o)
	d, err := s.Decode(t.contract)
	if err != nil {
		return nil, err
	}
	defer d.Release()
	looked, err := l.take(ctx, d, time.Time{})
	if err != nil {
		return nil, err
	}
	out.Looked = *looked
	if o.Rows > 0 && len(out.Rows) > o.Rows { // a message can be many rows
		out.Rows = out.Rows[:o.Rows]
	}
	for _, r := range out.Rows {
		if r.Quarantined() {
			out.Quarantined++
		} else {
			out.Landed++
		}
	}
	return out, nil
}

// waited says why there are not as many rows as were asked for; "" when there are.
func waited(c *connectors.Config, s *connectors.Sample, o TryOptions) string {
	switch {
	case s.Complete:
		return ""
	case s.Ended:
		return fmt.Sprintf("the input %s ended after %d rows", c.Input, s.Rows)
	}
	text := fmt.Sprintf("waited %s for %d rows of the input %s, and %d came", o.Within, o.Rows, c.Input, s.Rows)
	if s.LastWord != "" {
		text += "; it last said: " + s.LastWord
	}
	return text
}

// trial is a connector to be looked at, with the project around it.
type trial struct {
	project  *project.Project
	engine   *connectors.Engine
	mux      *connectors.Mux
	config   *connectors.Config
	contract *contract.Table // nil when there need not be one
	back     func()          // to the directory that the command was called in
}

// openTrial reads a connector and its project. Paths in it are relative to the
// project's directory, as when it runs, so this changes the working directory.
// Problems of other connectors and contracts do not matter.
func openTrial(file string, needsContract bool) (*trial, error) {
	src, err := connectors.ReadConfig(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.List{{File: file, Message: "does not exist; name a connector's file, such as connectors/orders.yaml"}}
	}
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("name of the connector's file: %w", err)
	}
	dir, name := filepath.Dir(filepath.Dir(abs)), filepath.Join(filepath.Base(filepath.Dir(abs)), filepath.Base(abs))
	was, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	pinRuntime()
	if err := os.Chdir(dir); err != nil {
		return nil, fmt.Errorf("project directory: %w", err)
	}
	t := &trial{mux: connectors.NewMux(), back: func() { _ = os.Chdir(was) }}
	defer func() {
		if err != nil {
			t.back()
		}
	}()
	if t.engine, err = connectors.New(connectors.Options{Mux: t.mux, OpenBucket: t.openBucket, Tables: &noTables{project: func() *project.Project { return t.project }}}); err != nil {
		return nil, err
	}
	if t.config, err = connectors.ReadConfig(name); err != nil {
		return nil, err
	}
	t.config.File = src.File
	p, lerr := project.Load(".")
	if lerr != nil && problem.Of(lerr) == nil {
		err = lerr
		return nil, err
	}
	t.project = p
	var ps problem.List
	tables := []string{src.Table}
	if needsContract {
		tables = nil
		for _, c := range p.Contracts() {
			tables = append(tables, c.Name())
		}
		var ok bool
		if t.contract, ok = p.Contract(src.Table); !ok {
			ps = append(ps, contractProblems(lerr, src.Table)...)
		}
	}
	if len(ps) == 0 {
		ps = append(ps, t.engine.Lint(t.config, tables)...)
	}
	if err = ps.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// pinRuntime has ONNX Runtime found where it was found from the directory that the
// command was called in.
func pinRuntime() {
	const variable = "TIDEMILL_ONNXRUNTIME"
	if os.Getenv(variable) != "" {
		return
	}
	if found, err := ortlib.Find(); err == nil {
		if abs, err := filepath.Abs(found); err == nil {
			_ = os.Setenv(variable, abs)
		}
	}
}

// openBucket reaches a bucket that the input files names, with the store's keys where
// it has none of its own.
func (t *trial) openBucket(ctx context.Context, c connectors.S3) (files.Bucket, error) {
	var own s3.Config
	if ends, err := configured(t.project); err == nil {
		own = ends.Store.S3
	}
	cfg := bucketConfig(own, c)
	b, err := s3.New(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the S3 store at %s: %w", cfg.Endpoint, err)
	}
	return b, nil
}

// noTables stands for tables without a row, in memory: inputs that go on where their
// table's log says begin at the beginning.
type noTables struct {
	project func() *project.Project

	mu   sync.Mutex
	open map[string]*connectors.Landing
}

// Landing implements connectors.Tables.
func (n *noTables) Landing(ctx context.Context, table string) (*connectors.Landing, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.open[table]; l != nil {
		return l, nil
	}
	c, ok := n.project().Contract(table)
	landed, bad := quarantine.Schema(), quarantine.Schema() // nothing is written
	if ok {
		landed = connectors.LandedSchema(c)
	}
	store := mem.New()
	l := &connectors.Landing{Contract: c}
	for _, t := range []struct {
		name   string
		schema *arrow.Schema
		to     **lakehouse.Appender
	}{{table, landed, &l.Landed}, {table + quarantine.Suffix, bad, &l.Quarantine}} {
		opened, err := lakehouse.Create(ctx, store, t.name, lakehouse.CreateOptions{Schema: t.schema})
		if err != nil {
			return nil, fmt.Errorf("empty table %s: %w", t.name, err)
		}
		if l.Table == nil {
			l.Table = opened
		}
		*t.to = lakehouse.NewAppender(opened, lakehouse.AppenderOptions{})
	}
	if n.open == nil {
		n.open = map[string]*connectors.Landing{}
	}
	n.open[table] = l
	return l, nil
}

// contractProblems are those of a project's problems that keep a table's contract
// from being read.
func contractProblems(err error, table string) (ps problem.List) {
	for _, p := range problem.Of(err) {
		if strings.TrimSuffix(filepath.Base(p.File), ".yaml") == table {
			ps.Add(p)
		}
	}
	return ps
}

// sample reads rows, on the project's own HTTP address where the input has none.
func (t *trial) sample(ctx context.Context, o TryOptions) (*connectors.Sample, error) {
	so := connectors.SampleOptions{Rows: o.Rows, Within: o.Within}
	if paths := connectors.HTTPPaths(t.config); len(paths) > 0 {
		srv, err := serveHTTP(t.project.HTTP().Address, t.mux, &board{}, NewRegistry(), false, o.Logger)
		if err != nil {
			return nil, err
		}
		defer srv.Close()
		for i := range paths {
			paths[i] = "http://" + srv.addr + paths[i]
		}
		tell(o.Progress, "waiting for %d rows at %s", o.Rows, strings.Join(paths, ", "))
	} else {
		tell(o.Progress, "reading %d rows of %s, for %s at most", o.Rows, t.config.Input, o.Within)
	}
	return t.engine.Sample(ctx, t.config, so)
}

func tell(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// Text shows what was seen to a person, in a width of so many characters; 0: any.
func (t *Tried) Text(width int) string {
	var b strings.Builder
	var good, bad [][]string
	var columns []string
	for _, r := range t.Rows {
		if r.Quarantined() {
			bad = append(bad, []string{r.Class, r.Rule, r.Column, r.Message, inLine(r.Raw)})
			continue
		}
		row := make([]string, 0, len(r.Values))
		names := make([]string, 0, len(r.Values))
		for _, v := range r.Values {
			names = append(names, v.name)
			row = append(row, cell(v.value))
		}
		if columns == nil {
			columns = names
		}
		good = append(good, row)
	}
	if len(good) > 0 {
		b.WriteString(grid(columns, good, width))
	}
	fmt.Fprintf(&b, "%d rows would land in %s and pass\n", t.Landed, t.Table)
	if len(bad) > 0 {
		b.WriteString("\n" + grid([]string{"class", "rule", "column", "message", "raw"}, bad, width))
	}
	fmt.Fprintf(&b, "%d rows would be quarantined\n", t.Quarantined)
	for _, name := range sortedKeys(t.Warnings) {
		fmt.Fprintf(&b, "warning  %s: %d\n", name, t.Warnings[name])
	}
	for _, f := range t.NewFields {
		fmt.Fprintf(&b, "new column  %s\n", f)
	}
	if t.Waited != "" {
		fmt.Fprintf(&b, "note  %s\n", t.Waited)
	}
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "note  %s\n", n)
	}
	return b.String()
}

func cell(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return inLine(s)
	}
	data, err := Columns{{"v", v}}.MarshalJSON()
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(data), `{"v":`), "}")
}

func inLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// grid lays rows out under a header. A last column that is too wide is cut off, and
// when that is not enough, so are the others.
func grid(header []string, rows [][]string, width int) string {
	const most = 60
	sizes := make([]int, len(header))
	for _, r := range append([][]string{header}, rows...) {
		for i := range min(len(r), len(sizes)) {
			sizes[i] = min(most, max(sizes[i], len([]rune(r[i]))))
		}
	}
	total := 2 * (len(sizes) - 1)
	for _, s := range sizes {
		total += s
	}
	for width > 0 && total > width {
		widest := slices.Index(sizes, slices.Max(sizes))
		if sizes[widest] <= 8 {
			break
		}
		sizes[widest]--
		total--
	}
	var b strings.Builder
	line := func(r []string) {
		var parts []string
		for i := range min(len(r), len(sizes)) {
			text := []rune(r[i])
			if len(text) > sizes[i] {
				text = append(text[:sizes[i]-1], '…')
			}
			parts = append(parts, string(text)+strings.Repeat(" ", sizes[i]-len(text)))
		}
		b.WriteString(strings.TrimRight(strings.Join(parts, "  "), " ") + "\n")
	}
	line(header)
	rule := make([]string, len(sizes))
	for i, s := range sizes {
		rule[i] = strings.Repeat("─", s)
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

// TerminalWidth is the width of standard output, 0 when it is no terminal.
func TerminalWidth() int { return terminalWidth() }
