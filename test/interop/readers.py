"""delta-rs, DuckDB and Polars for the interop tests: they read tables, whole and with
filters, and delta-rs writes some.
"""

import decimal
import glob
import os

import duckdb
import duckdb_extension_delta
import duckdb_extension_httpfs
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder

import engine
import writers

# A filter is {"column": path, "op": SQL's, "type": Delta's, "value": text}; the ops
# IS NULL and IS NOT NULL have no value.


def table(uri, options, version=None):
    return DeltaTable(uri, version=version, storage_options=options)


# --- delta-rs with Arrow's dataset: pruned by what the log says of the files.

ARROW = {"string": pa.string(), "long": pa.int64(), "integer": pa.int32(), "short": pa.int16(), "byte": pa.int8(), "double": pa.float64(),
         "float": pa.float32(), "boolean": pa.bool_(), "date": pa.date32(), "timestamp": pa.timestamp("us", tz="UTC")}


def arrow_value(f):
    t, v = f["type"], f["value"]
    if t.startswith("decimal"):
        p, s = t[len("decimal("):-1].split(",")
        return pa.scalar(decimal.Decimal(v), pa.decimal128(int(p), int(s)))
    if t == "boolean":
        return pa.scalar(v == "true")
    if t == "timestamp":
        return pa.scalar(v).cast(ARROW[t])
    return pc.cast(pa.scalar(v), ARROW[t])


OPS = {"=": "__eq__", "<>": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}


def arrow_expression(f):
    column = pc.field(*f["column"].split("."))
    if f["op"] == "IS NULL":
        return column.is_null()
    if f["op"] == "IS NOT NULL":
        return column.is_valid()
    return getattr(column, OPS[f["op"]])(arrow_value(f))


class Deltalake:
    """to_pyarrow_dataset of the Python package."""

    def scan(self, t, **_):
        return t.to_pyarrow_table()

    def filter(self, t, filters, **_):
        dataset = t.to_pyarrow_dataset()
        return [dataset.to_table(columns=["id"], filter=arrow_expression(f))["id"] for f in filters]


# --- delta-rs with DataFusion.


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def sql_column(f):
    first, *rest = f["column"].split(".")
    return '"%s"' % first + "".join("['%s']" % r for r in rest)


def sql(f, literal):
    if f["op"].startswith("IS"):
        return sql_column(f) + " " + f["op"]
    return "%s %s %s" % (sql_column(f), f["op"], literal(f["type"], f["value"]))


def datafusion_literal(t, v):
    if t == "timestamp":
        return "arrow_cast(%s, 'Timestamp(Microsecond, Some(\"UTC\"))')" % quoted(v)
    names = {"string": "VARCHAR", "long": "BIGINT", "integer": "INT", "short": "SMALLINT", "byte": "TINYINT", "float": "REAL"}
    return "CAST(%s AS %s)" % (quoted(v), names.get(t, t.upper()))


class DataFusion:
    """QueryBuilder of the Python package."""

    def run(self, t, query):
        return pa.table(QueryBuilder().register("t", t).execute(query))

    def scan(self, t, **_):
        return self.run(t, "SELECT * FROM t")

    def filter(self, t, filters, **_):
        return [self.run(t, "SELECT id FROM t WHERE " + sql(f, datafusion_literal))["id"] for f in filters]


# --- DuckDB with its delta extension.


def duckdb_literal(t, v):
    names = {"timestamp": "TIMESTAMPTZ", "string": "VARCHAR", "long": "BIGINT", "integer": "INT", "short": "SMALLINT", "byte": "TINYINT", "float": "REAL"}
    return "CAST(%s AS %s)" % (quoted(v), names.get(t, t.upper()))


class DuckDB:
    """delta_scan, which is delta-kernel-rs."""

    def __init__(self):
        self.con = duckdb.connect()
        # Where `INSTALL delta` has a network, it and LOAD delta are all there is to it.
        for package in (duckdb_extension_httpfs, duckdb_extension_delta):
            (path,) = glob.glob(os.path.join(os.path.dirname(package.__file__), "extensions", "v" + duckdb.__version__, "*.duckdb_extension"))
            self.con.execute("LOAD " + quoted(path))
        self.con.execute("SET TimeZone = 'UTC'")

    def source(self, uri, options, version):
        if options:
            self.con.execute(
                "CREATE OR REPLACE SECRET s (TYPE s3, KEY_ID %s, SECRET %s, REGION 'us-east-1', ENDPOINT %s, URL_STYLE 'path', USE_SSL false)"
                % tuple(quoted(s) for s in (options["AWS_ACCESS_KEY_ID"], options["AWS_SECRET_ACCESS_KEY"], options["AWS_ENDPOINT_URL"].removeprefix("http://")))
            )
        return "delta_scan(%s%s)" % (quoted(uri), "" if version is None else ", version := %d" % version)

    def scan(self, t, uri, options, version):
        return self.con.execute("SELECT * FROM " + self.source(uri, options, version)).to_arrow_table()

    def filter(self, t, filters, uri, options, version):
        source = self.source(uri, options, version)
        return [self.con.execute("SELECT id FROM %s WHERE %s" % (source, sql(f, duckdb_literal))).to_arrow_table()["id"] for f in filters]


# --- Polars.


def polars_expression(f):
    first, *rest = f["column"].split(".")
    column = pl.col(first)
    for r in rest:
        column = column.struct.field(r)
    if f["op"] == "IS NULL":
        return column.is_null()
    if f["op"] == "IS NOT NULL":
        return column.is_not_null()
    value = arrow_value(f)
    return getattr(column, OPS[f["op"]])(pl.lit(value.as_py(), dtype=pl.from_arrow(pa.array([], value.type)).dtype))


class Polars:
    def lazy(self, uri, options, version):
        return pl.scan_delta(uri, storage_options=options, version=version)

    def scan(self, t, uri, options, version):
        return self.lazy(uri, options, version).collect().to_arrow()

    def filter(self, t, filters, uri, options, version):
        return [self.lazy(uri, options, version).filter(polars_expression(f)).select("id").collect().to_arrow()["id"] for f in filters]


ENGINES = {"deltalake": Deltalake(), "datafusion": DataFusion(), "duckdb": DuckDB(), "polars": Polars()}


def scan(engine_name, uri, options, out, version=None):
    t = table(uri, options, version)
    rows = ENGINES[engine_name].scan(t, uri=uri, options=options, version=version)
    return {"rows": engine.save(rows, out), "files": len(t.file_uris()), "version": t.version()}


def matching(engine_name, uri, options, filters, version=None):
    t = table(uri, options, version)
    return [engine.ids(c) for c in ENGINES[engine_name].filter(t, filters, uri=uri, options=options, version=version)]


if __name__ == "__main__":
    engine.serve({"scan": scan, "matching": matching, "write": writers.write, "appends": writers.appends})
    os._exit(0)  # pyarrow's threads may abort an orderly end
