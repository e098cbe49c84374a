"""Tables that delta-rs writes, for the interop tests to read. Each takes a URI and
storage options, and leaves a table of some versions.
"""

import datetime as dt
import decimal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake

UTC = dt.timezone.utc
SCRIPTS = ["plain", "naïve café", "Ελληνικά", "עברית", "漢字かな", "🦆🇪🇺👩‍🔬", "a/b c=d%20&e", "quote\"'`\\", "line\nbreak\ttab", "NULL", "long " * 50]

NESTED = pa.struct([("city", pa.string()), ("deep", pa.struct([("zip", pa.int64()), ("days", pa.list_(pa.date32()))]))])
SCHEMA = pa.schema([
    pa.field("id", pa.int64(), nullable=False), ("tiny", pa.int8()), ("small", pa.int16()), ("mid", pa.int32()), ("f", pa.float32()),
    ("d", pa.float64()), ("flag", pa.bool_()), ("ts", pa.timestamp("us", "UTC")), ("day", pa.date32()), ("price", pa.decimal128(38, 10)),
    ("fee", pa.decimal128(5, 2)), ("mean", pa.decimal128(15, 6)), ("text", pa.string()), ("raw", pa.binary()), ("longs", pa.list_(pa.int64())),
    ("place", NESTED), ("places", pa.list_(NESTED)), ("attrs", pa.map_(pa.string(), pa.list_(pa.int32()))),
])


def row(i):
    if i % 7 == 0:
        return {"id": i}
    sign = -1 if i % 2 else 1
    # From the first year to the last, with microseconds.
    ts = dt.datetime(1 + (i * 997) % 9999, 1 + i % 12, 1 + i % 28, i % 24, 59, 59, (i * 7919) % 1_000_000, tzinfo=UTC)
    place = {"city": SCRIPTS[i % len(SCRIPTS)], "deep": None if i % 5 == 0 else {"zip": i, "days": [ts.date(), None][: i % 3]}}
    return {
        "id": i, "tiny": sign * (i % 128), "small": sign * i * 30, "mid": sign * i * 10_000_000, "f": float("nan") if i % 11 == 0 else sign * i / 3,
        "d": [float("inf"), float("-inf"), float("nan"), i / 7][i % 4], "flag": i % 2 == 0, "ts": ts, "day": ts.date(),
        "price": decimal.Decimal(sign * (10**38 - i)).scaleb(-10, decimal.Context(prec=38)), "fee": decimal.Decimal(sign * (99999 - i)).scaleb(-2),
        "mean": decimal.Decimal(sign * (10**15 - 1 - i)).scaleb(-6), "text": SCRIPTS[i % len(SCRIPTS)] + str(i), "raw": bytes([i % 256, 0, 255]),
        "longs": [k - 1 if k % 2 else None for k in range(i % 4)], "place": place if i % 6 else None, "places": [place, None][: i % 3],
        "attrs": [(SCRIPTS[k], [k, None]) for k in range(i % 3)],
    }


def rows(first, last):
    return pa.Table.from_pylist([row(i) for i in range(first, last)], schema=SCHEMA)


# Checkpoints only where a table says so, not by number.
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def all_types(uri, options):
    for k in range(4):
        write_deltalake(uri, rows(k * 25, k * 25 + 25), mode="append", storage_options=options, post_commithook_properties=NO_HOOKS)


def partitions(uri, options):
    """Partitioned by every type that it may, each with null, and texts that a path cannot hold."""
    by = ["text", "flag", "day", "ts", "mid", "fee"]
    schema = pa.schema([SCHEMA.field(n) for n in ["id", *by]])
    data = []
    for i in range(40):
        r = {n: row(i).get(n) for n in ["id", *by]}
        if r["text"] is not None:
            r["text"] = [*SCRIPTS[:-1], "", " ", "__HIVE_DEFAULT_PARTITION__", "%20", "ümlaut/../up", "#?;:+@"][i % 16]
        if r["fee"] is not None:
            r["fee"] = abs(r["fee"])  # deltalake 1.6.6 writes -999.90 as "-999.-90", and then refuses it
        data.append({**r, by[i % 6]: None})
    for half in (data[:20], data[20:]):
        write_deltalake(uri, pa.Table.from_pylist(half, schema=schema), mode="append", partition_by=by, storage_options=options, post_commithook_properties=NO_HOOKS)


def changes(uri, options):
    """Deletes, updates, merges, an overwrite, both kinds of OPTIMIZE, with a checkpoint between."""
    for k in range(3):
        write_deltalake(uri, rows(k * 20, k * 20 + 20), mode="append", storage_options=options, post_commithook_properties=NO_HOOKS)
    t = DeltaTable(uri, storage_options=options)
    t.delete("id % 5 = 1", post_commithook_properties=NO_HOOKS)
    t.update(predicate="id > 40", updates={"text": "'updated'", "mid": "mid + 1"}, post_commithook_properties=NO_HOOKS)
    t.create_checkpoint()
    source = pa.table({"id": pa.array([3, 5, 1000], pa.int64()), "text": ["merged", None, "inserted"]})
    merge = t.merge(source, "t.id = s.id", source_alias="s", target_alias="t", post_commithook_properties=NO_HOOKS)
    merge.when_matched_update(updates={"text": "s.text"}).when_not_matched_insert(updates={"id": "s.id", "text": "s.text"}).execute()
    t.optimize.compact(post_commithook_properties=NO_HOOKS)
    write_deltalake(t, rows(60, 70), mode="append", post_commithook_properties=NO_HOOKS)
    t.create_checkpoint()
    write_deltalake(t, rows(70, 80), mode="append", post_commithook_properties=NO_HOOKS)
    t.optimize.z_order(["id"], post_commithook_properties=NO_HOOKS)
    write_deltalake(t, rows(80, 85), mode="overwrite", post_commithook_properties=NO_HOOKS)


def evolution(uri, options):
    """Columns are added, on top and within a struct; old files lack them."""
    first = pa.table({"id": pa.array([1, 2], pa.int64()), "s": [{"a": 1}, None]})
    write_deltalake(uri, first, storage_options=options, post_commithook_properties=NO_HOOKS)
    second = pa.table({"id": pa.array([3], pa.int64()), "more": ["x"], "s": [{"a": 2, "b": "y"}]})
    write_deltalake(uri, second, mode="append", schema_mode="merge", storage_options=options, post_commithook_properties=NO_HOOKS)
    third = pa.table({"last": pa.array([decimal.Decimal("1.5")]), "id": pa.array([4], pa.int64())})
    write_deltalake(uri, third, mode="append", schema_mode="merge", storage_options=options, post_commithook_properties=NO_HOOKS)
    DeltaTable(uri, storage_options=options).create_checkpoint()


def transactions(uri, options):
    """Many commits, with checkpoints that delta-rs writes by itself; no statistics for most columns."""
    for k in range(30):
        properties = CommitProperties(custom_metadata={"k": str(k)})
        write_deltalake(
            uri, rows(k * 3, k * 3 + 3), mode="append", storage_options=options, commit_properties=properties,
            configuration={"delta.checkpointInterval": "7", "delta.dataSkippingNumIndexedCols": "2"} if k == 0 else None,
        )


def nested(uri, options):
    write_deltalake(uri, pa.table({"id": pa.array([1, 2], pa.int64()), "place": [{"n": 1, "tags": ["a"]}, {"n": 2, "tags": []}]}), storage_options=options)


def appends(uri, options, commits, rows):
    """Appends rows with ids from -1 downwards, so many with each commit."""
    schema = pa.schema(DeltaTable(uri, storage_options=options).schema().to_arrow())
    for k in range(commits):
        data = [{"id": -1 - k * rows - i, "text": "delta-rs"} for i in range(rows)]
        write_deltalake(uri, pa.Table.from_pylist(data, schema=schema), mode="append", storage_options=options, post_commithook_properties=NO_HOOKS)


def write(table, uri, options):
    TABLES[table](uri, options)
    t = DeltaTable(uri, storage_options=options)
    return t.version()


TABLES = {f.__name__: f for f in (all_types, partitions, changes, evolution, transactions, nested)}
