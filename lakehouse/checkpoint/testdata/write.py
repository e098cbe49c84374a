"""Writes Delta tables with a checkpoint into the directory argv[1]."""
import datetime as dt, decimal, glob, json, os, sys
import pyarrow as pa, pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

UTC = dt.timezone.utc
root = sys.argv[1]


def delta_rs():
    """All types, partitions whose paths are escaped, nulls, tombstones, txns."""
    def batch(n):
        return pa.table({
            "id": pa.array(range(n, n + 4), pa.int64()),
            "part": pa.array(["a b/c=d%", "ü", None, ""]),
            "day": pa.array([dt.date(2026, 1, 1), dt.date(1969, 12, 31), None, dt.date(2026, 1, 1)]),
            "price": pa.array([decimal.Decimal("12345678901234567.890"), None, decimal.Decimal("-0.001"), None], pa.decimal128(20, 3)),
            "ts": pa.array([dt.datetime(1969, 7, 20, 20, 17, 40, 123456, UTC), None, dt.datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
            "text": pa.array(["<&>", "漢字", None, "\"\\\n"]),
            "x": pa.array([float("nan"), 1.5, None, float("inf")]),
        })
    path = os.path.join(root, "delta_rs")
    for i in range(3):
        txns = [Transaction("app/1", i), Transaction(f"app@{i}", 10 * i, 1700000000000 + i)]
        write_deltalake(path, batch(4 * i), partition_by=["part", "day"], mode="append",
                        name="named", description="described", configuration={"delta.checkpointInterval": "1000"},
                        commit_properties=CommitProperties(app_transactions=txns))
    DeltaTable(path).delete("part = 'ü' and id < 4")
    DeltaTable(path).create_checkpoint()


# What Spark has in a checkpoint when a table says writeStatsAsStruct, and not writeStatsAsJson.
TS = pa.timestamp("us", "UTC")
VALUES = pa.struct([
    ("id", pa.int64()), ("small", pa.int16()), ("day", pa.date32()), ("ts", TS), ("text", pa.string()), ("x", pa.float64()), ("f", pa.float32()),
    ("flag", pa.bool_()), ("d5", pa.decimal128(5, 2)), ("d18", pa.decimal128(18, 4)), ("d38", pa.decimal128(38, 10)), ("bin", pa.binary()),
    ("in", pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.string())]))])),
])
NULLS = pa.struct([("id", pa.int64()), ("list", pa.int64()), ("in", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.int64())]))]))])
MAP = pa.map_(pa.string(), pa.string())
DV = pa.struct([("storageType", pa.string()), ("pathOrInlineDv", pa.string()), ("offset", pa.int32()), ("sizeInBytes", pa.int32()), ("cardinality", pa.int64())])
SPARK = pa.schema([
    ("txn", pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())])),
    ("add", pa.struct([
        ("path", pa.string()), ("partitionValues", MAP), ("size", pa.int64()), ("modificationTime", pa.int64()), ("dataChange", pa.bool_()),
        ("tags", MAP), ("deletionVector", DV), ("baseRowId", pa.int64()), ("defaultRowCommitVersion", pa.int64()), ("clusteringProvider", pa.string()),
        ("partitionValues_parsed", pa.struct([("p", pa.date32())])),
        ("stats_parsed", pa.struct([("numRecords", pa.int64()), ("minValues", VALUES), ("maxValues", VALUES), ("nullCount", NULLS), ("tightBounds", pa.bool_())])),
    ])),
    ("remove", pa.struct([("path", pa.string()), ("deletionTimestamp", pa.int64()), ("dataChange", pa.bool_()), ("extendedFileMetadata", pa.bool_()),
                          ("partitionValues", MAP), ("size", pa.int64()), ("deletionVector", DV), ("baseRowId", pa.int64())])),
    ("metaData", pa.struct([("id", pa.string()), ("name", pa.string()), ("description", pa.string()), ("format", pa.struct([("provider", pa.string()), ("options", MAP)])),
                            ("schemaString", pa.string()), ("partitionColumns", pa.list_(pa.string())), ("configuration", MAP), ("createdTime", pa.int64())])),
    ("protocol", pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32()), ("readerFeatures", pa.list_(pa.string())), ("writerFeatures", pa.list_(pa.string()))])),
    ("domainMetadata", pa.struct([("domain", pa.string()), ("configuration", pa.string()), ("removed", pa.bool_())])),
    ("checkpointMetadata", pa.struct([("version", pa.int64()), ("tags", MAP)])),
    ("sidecar", pa.struct([("path", pa.string()), ("sizeInBytes", pa.int64()), ("modificationTime", pa.int64()), ("tags", MAP)])),
])
LOW = {"id": -5, "small": -3, "day": dt.date(1900, 2, 3), "ts": dt.datetime(1600, 1, 2, 3, 4, 5, 678000, UTC), "text": "<a>", "x": -1e-300, "f": 0.1, "flag": False,
       "d5": decimal.Decimal("-1.05"), "d18": decimal.Decimal("-99999999999999.9999"), "d38": decimal.Decimal("-1234567890123456789012345678.0123456789"),
       "bin": b"x", "in": {"a": 1, "b": {"c": "\u00fc"}}}
HIGH = dict(LOW, id=2**62, ts=dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), x=float("nan"), d18=decimal.Decimal("0.0001"))
HIGH["in"] = {"a": None, "b": {"c": None}}
STATS = {"numRecords": 7, "minValues": LOW, "maxValues": HIGH, "nullCount": {"id": 0, "list": 2, "in": {"a": 1, "b": {"c": 0}}}, "tightBounds": True}


def add(i, **more):
    a = {"path": f"p=2026-01-01/{i}.parquet", "partitionValues": [("p", "2026-01-01")], "size": 100 + i, "modificationTime": 1700000000000, "dataChange": False,
         "partitionValues_parsed": {"p": dt.date(2026, 1, 1)}, "stats_parsed": STATS}
    a.update(more)
    return {"add": a}


def spark():
    rows = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, add(0), {"txn": {"appId": "q", "version": 9}}, add(1, stats_parsed=None, tags=[("INSERTION_TIME", "1"), ("none", None)]),
            {"domainMetadata": {"domain": "d", "configuration": "{}", "removed": False}}, {"remove": {"path": "gone", "dataChange": True}},
            {"metaData": {"id": "m", "format": {"provider": "parquet", "options": []}, "schemaString": "{}", "partitionColumns": ["p", "q"], "configuration": []}}]
    rows += [add(i, partitionValues=[("p", None)]) for i in range(2, 3000)]
    write("spark", rows, row_group_size=1000)
    write("spark_int96", rows, use_deprecated_int96_timestamps=True, compression="snappy")
    write("spark_v2pages", rows, data_page_version="2.0", data_page_size=4096, compression="gzip")
    write("spark_ms", rows, coerce_timestamps="ms", allow_truncated_timestamps=True, store_decimal_as_integer=True, compression="none")
    write("v2_sidecar", rows + [{"sidecar": {"path": "s", "sizeInBytes": 1, "modificationTime": 1}}])
    write("v2_metadata", [{"checkpointMetadata": {"version": 3}}] + rows)
    write("vectors", rows + [add(-1, deletionVector={"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 1})])
    write("nopath", rows + [add(0, path=None)])
    narrow = pa.schema([f for f in SPARK if f.name in ("add", "protocol")])
    write("narrow", [{"add": add(0)["add"]}], schema=narrow)
    bare = pa.schema([("add", pa.struct([("path", pa.string()), ("size", pa.int32())]))])
    write("bare", [{"add": {"path": "x", "size": 3}}, {"add": None}], schema=bare)
    odd = pa.schema([("add", pa.struct([("path", pa.int64()), ("size", pa.int32())]))])
    write("odd", [{"add": {"path": 3, "size": 3}}], schema=odd)


def write(name, rows, schema=SPARK, **options):
    columns = [pa.array([r.get(f.name) for r in rows], f.type) for f in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), os.path.join(root, name + ".parquet"), **options)


delta_rs()
spark()
