package pgchanges

import (
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// What a row says of itself, beside the table's columns.
const (
	FieldOp        = "cdc_op"        // insert, update, delete, truncate; snapshot for a row that was there before
	FieldTable     = "cdc_table"     // schema.table
	FieldLSN       = "cdc_lsn"       // a number: position of the transaction's commit; of a snapshot that of the slot's beginning
	FieldIndex     = "cdc_index"     // a number: the change's place in its transaction. Rows are in order by lsn and index
	FieldTime      = "cdc_time"      // when the transaction was committed; of a snapshot when the slot was created
	FieldOld       = "cdc_old"       // an object: of an update that changed the key, the key before it; with REPLICA IDENTITY FULL the whole row
	FieldUnchanged = "cdc_unchanged" // an array: large columns of an update that did not change and that the server does not send
)

// Op is what happened to a row.
type Op string

// What can happen to a row, or to a whole table.
const (
	OpInsert   Op = "insert"
	OpUpdate   Op = "update"
	OpDelete   Op = "delete"
	OpTruncate Op = "truncate"
	OpSnapshot Op = "snapshot"
)

// Row is one row of JSON, or several, and where it stands.
type Row struct {
	Partition string
	Offset    int64  // of the first; the others count on
	Void      int64  // offsets before it that no row has
	Sparse    bool   // offsets have gaps
	Cursor    string // from where a snapshot goes on behind it
	Rows      int    // in Data, one a line
	Data      []byte
}

// column of a relation.
type column struct {
	name string // quoted, with a colon
	bare string
	oid  uint32
	key  bool
}

// relation is a table as the server describes it.
type relation struct {
	name    string // schema.table
	columns []column
}

func relationOf(m *pglogrepl.RelationMessage) *relation {
	r := &relation{name: m.Namespace + "." + m.RelationName}
	for _, c := range m.Columns {
		r.columns = append(r.columns, newColumn(c.Name, c.DataType, c.Flags&1 == 1))
	}
	return r
}

func newColumn(name string, oid uint32, key bool) column {
	return column{name: string(jsontext.AppendString(nil, name)) + ":", bare: name, oid: oid, key: key}
}

// stamp is what all rows of a transaction have in common.
type stamp struct {
	lsn  pglogrepl.LSN
	time time.Time
}

// change appends a change's row. Of a delete the old tuple is the row.
func (t *types) change(dst []byte, r *relation, op Op, at stamp, index int64, row, old *pglogrepl.TupleData, keyOnly bool) []byte {
	dst = append(dst, '{')
	var unchanged []string
	first := true
	if row != nil {
		for i, c := range row.Columns {
			if i >= len(r.columns) {
				break
			}
			if c.DataType == pglogrepl.TupleDataTypeToast && old != nil && !keyOnly && i < len(old.Columns) {
				c = old.Columns[i] // the whole row as it was has the value
			}
			if c.DataType == pglogrepl.TupleDataTypeToast {
				unchanged = append(unchanged, r.columns[i].bare)
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			dst, first = t.field(dst, r.columns[i], c), false
		}
	}
	if row == nil && old != nil {
		dst, first = t.tuple(dst, r, old, keyOnly, first)
		old = nil
	}
	if !first {
		dst = append(dst, ',')
	}
	dst = appendStamp(dst, r.name, op, at, index)
	if old != nil {
		dst = append(dst, `,"`+FieldOld+`":{`...)
		dst, _ = t.tuple(dst, r, old, keyOnly, true)
		dst = append(dst, '}')
	}
	if len(unchanged) > 0 {
		dst = append(dst, `,"`+FieldUnchanged+`":[`...)
		for i, name := range unchanged {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = jsontext.AppendString(dst, name)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// tuple appends the fields of an old row; of a key only the key's columns have values.
func (t *types) tuple(dst []byte, r *relation, old *pglogrepl.TupleData, keyOnly, first bool) ([]byte, bool) {
	for i, c := range old.Columns {
		if i >= len(r.columns) || keyOnly && !r.columns[i].key || c.DataType == pglogrepl.TupleDataTypeToast {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		dst, first = t.field(dst, r.columns[i], c), false
	}
	return dst, first
}

func (t *types) field(dst []byte, col column, c *pglogrepl.TupleDataColumn) []byte {
	dst = append(dst, col.name...)
	if c.DataType != pglogrepl.TupleDataTypeText {
		return append(dst, "null"...)
	}
	return t.value(dst, col.oid, string(c.Data))
}

// appendStamp appends what a row says of itself.
func appendStamp(dst []byte, table string, op Op, at stamp, index int64) []byte {
	dst = append(dst, `"`+FieldOp+`":"`...)
	dst = append(dst, op...)
	dst = append(dst, `","`+FieldTable+`":`...)
	dst = jsontext.AppendString(dst, table)
	dst = append(dst, `,"`+FieldLSN+`":`...)
	dst = strconv.AppendUint(dst, uint64(at.lsn), 10)
	dst = append(dst, `,"`+FieldIndex+`":`...)
	dst = strconv.AppendInt(dst, index, 10)
	dst = append(dst, `,"`+FieldTime+`":"`...)
	dst = at.time.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	return append(dst, '"')
}
