package query

/*
#include <stdlib.h>
#include <stdint.h>

void tidemillScanBind(void *);
void tidemillScanInit(void *);
void tidemillScanFill(void *, void *);
void tidemillScanFree(void *);
typedef void (*tidemill_info_fn)(void *);
typedef void (*tidemill_fill_fn)(void *, void *);
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// The table function behind every view of an [Engine]: tidemill_scan(view)
// reads the records that the running query of its own connection was given
// under that name. Go values cross to C as handles in malloc'ed cells, since C
// may keep neither Go pointers nor the addresses of Go variables.
const scanFunction = "tidemill_scan"

// binding is a view in a prepared statement: it outlives single runs.
type binding struct {
	conn *conn
	view string
}

// scan is one pass over the records of a view.
type scan struct {
	conn    *conn
	records []arrow.Record
	columns [][]arrow.Array // per record, in the order of the output's vectors; nil: a virtual column
	record  int
	row     int64
}

func box(v any) unsafe.Pointer {
	p := C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0))))
	*(*cgo.Handle)(p) = cgo.NewHandle(v)
	return p
}

func unbox[T any](p unsafe.Pointer) T { return (*(*cgo.Handle)(p)).Value().(T) }

//export tidemillScanFree
func tidemillScanFree(p unsafe.Pointer) {
	(*(*cgo.Handle)(p)).Delete()
	C.free(p)
}

func freeCallback() unsafe.Pointer {
	return unsafe.Pointer(C.tidemill_info_fn(C.tidemillScanFree))
}

// registerScan makes the table function known to the engine's database.
func registerScan(c duckdb.Connection, e *Engine) error {
	f := duckdb.CreateTableFunction()
	defer duckdb.DestroyTableFunction(&f)
	duckdb.TableFunctionSetName(f, scanFunction)
	text := duckdb.CreateLogicalType(duckdb.TypeVarchar)
	defer duckdb.DestroyLogicalType(&text)
	duckdb.TableFunctionAddParameter(f, text)
	duckdb.TableFunctionSetExtraInfo(f, box(e), freeCallback())
	duckdb.TableFunctionSupportsProjectionPushdown(f, true)
	duckdb.TableFunctionSetBind(f, unsafe.Pointer(C.tidemill_info_fn(C.tidemillScanBind)))
	duckdb.TableFunctionSetInit(f, unsafe.Pointer(C.tidemill_info_fn(C.tidemillScanInit)))
	duckdb.TableFunctionSetFunction(f, unsafe.Pointer(C.tidemill_fill_fn(C.tidemillScanFill)))
	if duckdb.RegisterTableFunction(c, f) == duckdb.StateError {
		return fmt.Errorf("register table function %s", scanFunction)
	}
	return nil
}

//export tidemillScanBind
func tidemillScanBind(p unsafe.Pointer) {
	info := duckdb.BindInfo{Ptr: p}
	e := unbox[*Engine](duckdb.BindGetExtraInfo(info))
	var ctx duckdb.ClientContext
	duckdb.TableFunctionGetClientContext(info, &ctx)
	id := uint64(duckdb.ClientContextGetConnectionId(ctx))
	duckdb.DestroyClientContext(&ctx)
	arg := duckdb.BindGetParameter(info, 0)
	view := duckdb.GetVarchar(arg)
	duckdb.DestroyValue(&arg)

	c, _ := e.byID.Load(id)
	if c == nil || c.(*conn).views[view] == nil {
		duckdb.BindSetError(info, fmt.Sprintf("%s(%q): this query has no such view", scanFunction, view))
		return
	}
	for _, f := range c.(*conn).views[view].Fields() {
		lt := logicalType(f.Type)
		duckdb.BindAddResultColumn(info, f.Name, lt)
		duckdb.DestroyLogicalType(&lt)
	}
	duckdb.BindSetCardinality(info, typicalRows, false)
	duckdb.BindSetBindData(info, box(&binding{conn: c.(*conn), view: view}), freeCallback())
}

// typicalRows is what the optimizer is told about a view: statements are
// prepared before the batch is known.
const typicalRows = 20_000

//export tidemillScanInit
func tidemillScanInit(p unsafe.Pointer) {
	info := duckdb.InitInfo{Ptr: p}
	b := unbox[*binding](duckdb.InitGetBindData(info))
	s := &scan{conn: b.conn}
	if b.conn.input != nil {
		s.records = b.conn.input.views[b.view]
	}
	s.columns = make([][]arrow.Array, len(s.records))
	width := duckdb.InitGetColumnCount(info)
	for i := range width {
		at := uint64(duckdb.InitGetColumnIndex(info, i))
		for r, rec := range s.records {
			var col arrow.Array
			if at < uint64(rec.NumCols()) {
				col = b.conn.input.ready(rec.Column(int(at)))
			}
			s.columns[r] = append(s.columns[r], col)
		}
	}
	duckdb.InitSetMaxThreads(info, 1) // keeps the order of rows, and a scan needs no lock
	duckdb.InitSetInitData(info, box(s), freeCallback())
}

//export tidemillScanFill
func tidemillScanFill(p, out unsafe.Pointer) {
	info, chunk := duckdb.FunctionInfo{Ptr: p}, duckdb.DataChunk{Ptr: out}
	s := unbox[*scan](duckdb.FunctionGetInitData(info))
	if err := s.conn.ctx.Err(); err != nil {
		duckdb.FunctionSetError(info, err.Error())
		return
	}
	for s.record < len(s.records) && s.row == s.records[s.record].NumRows() {
		s.record, s.row = s.record+1, 0
	}
	if s.record == len(s.records) {
		duckdb.DataChunkSetSize(chunk, 0)
		return
	}
	rec := s.records[s.record]
	n := min(rec.NumRows()-s.row, vectorSize)
	for i, col := range s.columns[s.record] {
		if col != nil {
			fillVector(duckdb.DataChunkGetVector(chunk, duckdb.IdxT(i)), col, int(s.row), int(n), 0)
		}
	}
	duckdb.DataChunkSetSize(chunk, duckdb.IdxT(n))
	s.row += n
}
