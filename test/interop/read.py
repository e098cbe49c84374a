"""Reads Delta tables with delta-rs and with DuckDB, for interop_test.go.

    read.py < job.json > answer.json

The job has the table's URI, storage options, an expression that makes one text of
a row, and filters; with "append", so many of the table's rows are appended to it by
delta-rs first. The answer has the rows' texts as each reader sees them.
"""

import decimal
import json
import os
import sys
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyarrow import fs

job = json.load(sys.stdin)
options = job["storage_options"]
table = DeltaTable(job["uri"], storage_options=options)
answer = {"version": table.version(), "partitions": table.metadata().partition_columns}

if job.get("append"):
    rows = table.to_pyarrow_table().slice(0, job["append"])
    write_deltalake(table, rows, mode="append")
    table = DeltaTable(job["uri"], storage_options=options)
    answer["version"] = table.version()

con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'")


def texts(where="true"):
    return sorted(r[0] for r in con.execute(f"SELECT {job['row']} FROM t WHERE {where}").fetchall())


# delta-rs' own reading of log and files; DuckDB only makes text of it.
full = table.to_pyarrow_table()
con.register("t", full)
answer["deltalake"] = texts()

# DuckDB's Parquet reader over the files that delta-rs lists.
store = fs.S3FileSystem(
    endpoint_override=options["AWS_ENDPOINT_URL"].removeprefix("http://"), scheme="http", region=options["AWS_REGION"],
    access_key=options["AWS_ACCESS_KEY_ID"], secret_key=options["AWS_SECRET_ACCESS_KEY"],
)
with tempfile.TemporaryDirectory() as tmp:
    paths = []
    uris = table.file_uris()
    for uri in uris:
        path = os.path.join(tmp, uri.removeprefix(job["uri"]).lstrip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with store.open_input_stream(uri.removeprefix("s3://")) as src, open(path, "wb") as dst:
            dst.write(src.read())
        paths.append(path)
    answer["files"] = len(paths)
    con.unregister("t")
    # A file does not have its partition's values; the log does, whatever the path says.
    parts = answer["partitions"]
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    values = {os.path.basename(a["path"]): {p: a["partition." + p] for p in parts} for a in actions}
    selects = []
    for path, uri in zip(paths, uris):
        literals = values[os.path.basename(uri)] if parts else {}
        columns = []
        for c in full.column_names:
            if c in parts:
                v = literals[c]
                text = "NULL" if v is None else "'" + str(v).replace("'", "''") + "'"
                columns.append('CAST(%s AS %s) AS "%s"' % (text, job["types"][c], c))
            else:
                columns.append('"%s"' % c)
        selects.append("SELECT %s FROM read_parquet('%s', hive_partitioning = false)" % (", ".join(columns), path.replace("'", "''")))
    con.execute("CREATE VIEW t AS " + " UNION ALL ".join(selects))
    answer["duckdb"] = texts()
    answer["duckdb_filtered"] = [len(texts(f["sql"])) for f in job["filters"]]
    con.execute("DROP VIEW t")

# Filters that prune: by delta-rs' engine, and by a dataset made of its statistics.
engine = QueryBuilder().register("t", table)
answer["datafusion"] = []
for f in job["filters"]:
    r = engine.execute(f"SELECT count(*) AS n FROM t WHERE {f.get('datafusion', f['sql'])}")
    r = r.read_all() if hasattr(r, "read_all") else r
    answer["datafusion"].append(pa.table(r)["n"][0].as_py())
dataset = table.to_pyarrow_dataset()
answer["dataset"] = []
for f in job["filters"]:
    if "arrow" not in f:
        answer["dataset"].append(-1)
        continue
    answer["dataset"].append(dataset.to_table(filter=eval(f["arrow"], {"field": pc.field, "pa": pa, "scalar": pa.scalar, "Decimal": decimal.Decimal})).num_rows)
json.dump(answer, sys.stdout)
sys.stdout.flush()
os._exit(0)  # pyarrow's S3 threads may abort an orderly end
