package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// fieldsPrefix is where a project keeps, for each table with on_new_field: add, the
// fields that its contract does not know: <table>.json, a list of FieldInfo.
const fieldsPrefix = systemPrefix + "/fields"

const (
	maxFields  = 250         // that are kept of one table
	maxIgnored = 100         // of those that have no column, which a source may make up
	fieldsRest = time.Minute // between two writes that bring nothing but counts
)

// FieldInfo is a field that connectors met and the contract does not know.
type FieldInfo struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"` // of its column; of an ignored field: what it would be
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Source    string    `json:"source,omitempty"`  // the source partition that it was first met in
	Example   string    `json:"example,omitempty"` // its first value, as JSON
	Rows      int64     `json:"rows"`              // how often it was seen, about: several processes count
	Ignored   string    `json:"ignored,omitempty"` // why it has no column; empty when it has one
}

// fieldBook keeps the record of one table's new fields. What it cannot write now it
// writes later; a table's own columns are what counts.
type fieldBook struct {
	store objstore.Store
	table string
	log   *slog.Logger
	count func(outcome string)
	now   func() time.Time

	writing sync.Mutex // one read and write of the object at a time

	mu      sync.Mutex
	added   map[string]bool       // guarded by mu: fields that were told of, with a column
	ignored map[string]bool       // guarded by mu: and without; at most maxIgnored
	pending map[string]*FieldInfo // guarded by mu: what is not written yet; Rows is what came on top
	written time.Time             // guarded by mu: when it was last tried
	wg      sync.WaitGroup
}

func newFieldBook(store objstore.Store, table string, log *slog.Logger, count func(outcome string)) *fieldBook {
	return &fieldBook{store: store, table: table, log: log.With("table", table), count: count, now: time.Now, added: map[string]bool{}, ignored: map[string]bool{}, pending: map[string]*FieldInfo{}}
}

// met takes in fields as connectors.Landing.NewFields is told of them. A field that
// is new here is logged and written at once.
func (b *fieldBook) met(ctx context.Context, fields []connectors.Field) {
	news := false
	b.mu.Lock()
	for _, f := range fields {
		news = b.note(f) || news
	}
	b.mu.Unlock()
	if news {
		b.write(ctx)
	}
}

// note takes in one field. The caller holds b.mu.
func (b *fieldBook) note(f connectors.Field) (news bool) {
	switch {
	case f.Ignored == "" && !b.added[f.Name]:
		b.added[f.Name], news = true, true
		b.count("added")
		b.log.Info("a field that the contract does not know has got a column", "field", f.Name, "type", contract.TypeName(f.Type), "source", f.Source)
	case f.Ignored != "" && !b.ignored[f.Name]:
		if len(b.ignored) >= maxIgnored {
			return false
		}
		b.ignored[f.Name], news = true, true
		b.count("ignored")
		b.log.Warn("a field that the contract does not know is ignored", "field", f.Name, "reason", f.Ignored, "source", f.Source)
		if len(b.ignored) == maxIgnored {
			b.log.Warn("further fields are ignored without being named")
		}
	}
	p := b.entry(f.Name)
	if p == nil {
		return news
	}
	if p.Type == "" || f.Ignored == "" && p.Ignored != "" {
		p.Type, p.Source, p.Example, p.Ignored = contract.TypeName(f.Type), f.Source, f.Example, f.Ignored
	}
	if f.Ignored != "" { // those with a column are counted as they land
		p.Rows += f.Rows
	}
	return news
}

// entry returns what is to be written of a field. The caller holds b.mu.
func (b *fieldBook) entry(name string) *FieldInfo {
	p := b.pending[name]
	if p == nil {
		if len(b.pending) >= maxFields {
			return nil
		}
		p = &FieldInfo{Name: name, FirstSeen: b.now().UTC()}
		b.pending[name] = p
	}
	p.LastSeen = b.now().UTC()
	return p
}

// landed counts rows with a value in columns that the contract does not know. It does
// not block; now and then it has the counts written.
func (b *fieldBook) landed(rows map[string]int64) {
	if len(rows) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, n := range rows {
		if p := b.entry(name); p != nil {
			p.Rows += n
		}
	}
	if b.now().Sub(b.written) < fieldsRest {
		return
	}
	b.written = b.now()
	b.wg.Add(1)
	go func() {
		defer b.wg.Done()
		b.write(context.Background())
	}()
}

// close writes what is not written yet.
func (b *fieldBook) close(ctx context.Context) {
	b.wg.Wait()
	b.mu.Lock()
	rest := len(b.pending) > 0
	b.mu.Unlock()
	if rest {
		b.write(ctx)
	}
}

// write brings what is pending into the object.
func (b *fieldBook) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	mine := b.pending
	b.pending, b.written = map[string]*FieldInfo{}, b.now()
	b.mu.Unlock()
	if err := b.merge(ctx, mine); err != nil {
		b.log.Warn("new fields not recorded; tried again later", "error", err)
		b.mu.Lock()
		defer b.mu.Unlock()
		for name, f := range mine {
			if p := b.pending[name]; p != nil {
				f.add(p)
			}
			b.pending[name] = f
		}
	}
}

func (b *fieldBook) merge(ctx context.Context, mine map[string]*FieldInfo) error {
	have, err := readFields(ctx, b.store, b.table)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(mine) {
		i := slices.IndexFunc(have, func(f FieldInfo) bool { return f.Name == name })
		switch {
		case i >= 0:
			have[i].add(mine[name])
		case len(have) < maxFields:
			have = append(have, *mine[name])
		}
	}
	data, err := json.MarshalIndent(have, "", "  ")
	if err != nil {
		return err
	}
	return b.store.Put(ctx, fieldsPrefix+"/"+b.table+".json", append(data, '\n'))
}

// add takes in what was seen of a field on top.
func (f *FieldInfo) add(more *FieldInfo) {
	if more.Type != "" && (f.Type == "" || f.Ignored != "" && more.Ignored == "") {
		f.Type, f.Source, f.Example, f.Ignored = more.Type, more.Source, more.Example, more.Ignored
	}
	f.Rows += more.Rows
	if more.LastSeen.After(f.LastSeen) {
		f.LastSeen = more.LastSeen
	}
	if more.FirstSeen.Before(f.FirstSeen) {
		f.FirstSeen = more.FirstSeen
	}
}

// readFields reads the record of a table's new fields, empty when there is none.
func readFields(ctx context.Context, store objstore.Store, table string) ([]FieldInfo, error) {
	key := fieldsPrefix + "/" + table + ".json"
	data, err := store.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []FieldInfo
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%s: %w; delete the object, it is made again", key, err)
	}
	return out, nil
}

// Fields are a table's fields that its contract does not know.
type Fields struct {
	Contract string      `json:"contract"` // its file
	Fields   []FieldInfo `json:"fields"`
}

// ContractFields lists the fields that connectors met and a contract does not know:
// what was recorded of them, and columns that the landed table has beside the
// contract's. Those that the contract has by now are left out.
func (c *Client) ContractFields(ctx context.Context, table string) (Fields, error) {
	t, ok := c.tables.contracts[table]
	if !ok {
		return Fields{}, fmt.Errorf("no contract for a table %s; there are: %s", table, strings.Join(sortedKeys(c.tables.contracts), ", "))
	}
	out := Fields{Contract: t.File(), Fields: []FieldInfo{}}
	recorded, err := readFields(ctx, c.store, table)
	if err != nil {
		return out, err
	}
	own := connectors.LandedSchema(t)
	for _, f := range recorded {
		if !own.HasField(f.Name) {
			out.Fields = append(out.Fields, f)
		}
	}
	landed, err := c.tables.Open(ctx, table)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	snap, err := landed.Refresh(ctx)
	if err != nil {
		return out, err
	}
	for _, f := range snap.Schema().Fields() {
		if own.HasField(f.Name) {
			continue
		}
		i := slices.IndexFunc(out.Fields, func(r FieldInfo) bool { return r.Name == f.Name })
		if i < 0 {
			i = len(out.Fields)
			out.Fields = append(out.Fields, FieldInfo{Name: f.Name})
		}
		out.Fields[i].Type, out.Fields[i].Ignored = contract.TypeName(f.Type), "" // the table is right
	}
	slices.SortStableFunc(out.Fields, func(a, b FieldInfo) int { return a.FirstSeen.Compare(b.FirstSeen) })
	return out, nil
}

// YAML returns lines to paste under columns: of the contract, and as comments what
// is known of the fields and why some have none.
func (f Fields) YAML() string {
	var columns, ignored strings.Builder
	for _, x := range f.Fields {
		if x.Ignored != "" {
			fmt.Fprintf(&ignored, "#   %s: %s\n", oneLine(x.Name), x.Ignored)
			continue
		}
		fmt.Fprintf(&columns, "  - {name: %s, type: %s}%s\n", yamlName(x.Name), yamlType(x.Type), x.comment())
	}
	if columns.Len() == 0 && ignored.Len() == 0 {
		return "# no field was met that " + f.Contract + " does not know\n"
	}
	var out strings.Builder
	if columns.Len() > 0 {
		fmt.Fprintf(&out, "# for columns: of %s\n%s", f.Contract, columns.String())
	}
	if ignored.Len() > 0 {
		fmt.Fprintf(&out, "# ignored:\n%s", ignored.String())
	}
	return out.String()
}

// comment says what is known of a field.
func (x FieldInfo) comment() string {
	if x.FirstSeen.IsZero() {
		return ""
	}
	out := fmt.Sprintf("  # %d rows since %s", x.Rows, x.FirstSeen.Format("2006-01-02 15:04"))
	if x.Example != "" {
		out += ", such as " + oneLine(x.Example)
	}
	if x.Type == "string" && x.Example != "" && x.Example[0] != '"' {
		out += " (kept as JSON text; once declared, only JSON strings are taken)"
	}
	return out
}

// oneLine makes text fit into a comment.
func oneLine(s string) string {
	const most = 60
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > most {
		r = append(r[:most], '…')
	}
	return string(r)
}

// yamlType quotes a type that YAML would take apart.
func yamlType(typ string) string {
	if strings.ContainsAny(typ, ",:{}[]") {
		return `"` + typ + `"`
	}
	return typ
}

// yamlName quotes a name that YAML would take for something else than text.
func yamlName(name string) string {
	switch strings.ToLower(name) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return `"` + name + `"`
	}
	return name
}
