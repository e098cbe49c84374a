"""What the engines of the interop tests have in common: calls as lines of JSON on
standard input, answers as lines on standard output, rows as Arrow files.
"""

import json
import os
import sys
import traceback

import pyarrow as pa


def serve(calls):
    """Answers {"call": name, "args": {...}} with {"answer": ...} or {"error": text}."""
    # Libraries and the JVM print what they like; that goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = {"answer": calls[job["call"]](**job["args"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def plain(t):
    """The type as Tidemill knows it: one string, one list, microseconds in UTC."""
    if pa.types.is_dictionary(t):
        return plain(t.value_type)
    if pa.types.is_large_string(t) or pa.types.is_string_view(t):
        return pa.string()
    if pa.types.is_large_binary(t) or pa.types.is_binary_view(t) or pa.types.is_fixed_size_binary(t):
        return pa.binary()
    if pa.types.is_timestamp(t):
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_decimal(t):
        return pa.decimal128(t.precision, t.scale)
    if pa.types.is_map(t):
        return pa.map_(plain(t.key_type), pa.field("value", plain(t.item_type)))
    if pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_list_view(t) or pa.types.is_large_list_view(t):
        return pa.list_(pa.field("element", plain(t.value_type)))
    if pa.types.is_struct(t):
        return pa.struct([pa.field(f.name, plain(f.type)) for f in t])
    return t


def save(rows, path):
    """Writes a pyarrow.Table for the tests to read, and returns its number of rows."""
    schema = pa.schema([pa.field(f.name, plain(f.type)) for f in rows.schema])
    rows = rows.cast(schema)  # safe: it fails where a value would change
    with pa.OSFile(path, "wb") as f, pa.ipc.new_file(f, schema) as w:
        w.write_table(rows)
    return rows.num_rows


def ids(column):
    """The values of a column, sorted."""
    return sorted(pa.array(column).to_pylist() if not isinstance(column, pa.ChunkedArray) else column.to_pylist())
