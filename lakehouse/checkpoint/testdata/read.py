"""Prints the rows of the Delta table argv[1] as several readers see them, one JSON object: reader -> sorted rows of column id."""
import glob, json, os, sys
import duckdb, polars
from deltalake import DeltaTable

path = sys.argv[1]
table = DeltaTable(path)
out = {"version": table.version(), "files": len(table.file_uris()), "txn": table.transaction_version("app/1"),
       "deltalake": table.to_pyarrow_table().column("id").to_pylist(),
       "polars": polars.scan_delta(path).collect()["id"].to_list()}
try:
    import duckdb_extension_delta
except ImportError:
    pass  # not for every DuckDB
else:
    extension, = glob.glob(os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "extensions", "*", "*.duckdb_extension"))
    db = duckdb.connect()
    db.load_extension(extension)
    out["duckdb"] = [r[0] for r in db.execute("SELECT id FROM delta_scan(?)", [path]).fetchall()]
print(json.dumps({k: sorted(v) if isinstance(v, list) else v for k, v in out.items()}))
