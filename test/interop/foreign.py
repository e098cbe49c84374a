"""Writes tables as others do, for foreign_test.go: random types nested in each other, files
that Delta's own writers do not make any more, random lives of a table. What should be read
is left beside them as Arrow files.
"""

import datetime
import decimal
import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, convert_to_deltalake, write_deltalake

import engine

UTC = datetime.timezone.utc
PRIMITIVES = [
    pa.string(), pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.float64(), pa.float32(), pa.bool_(), pa.binary(), pa.date32(),
    pa.timestamp("us", "UTC"), pa.decimal128(5, 2), pa.decimal128(9, 0), pa.decimal128(18, 3), pa.decimal128(38, 10), pa.decimal128(38, 38),
]
TEXTS = ["", "a", "naïve", "漢字", "a/b c=d%20&e", "quote\"'\\", "line\nbreak", "x" * 70]


def random_type(r, depth, primitives=PRIMITIVES):
    """A type; below the top, not everything can be null."""
    kind = r.randrange(8) if depth else 0
    field = lambda name: pa.field(name, random_type(r, depth - 1, primitives), nullable=r.random() < 0.8)
    if kind < 4:
        return r.choice(primitives)
    if kind < 6:
        return pa.list_(field("element"))
    if kind == 6:
        return pa.struct([field("f%d" % i) for i in range(r.randrange(1, 4))])
    return pa.map_(pa.string(), field("value"))


def random_value(r, t, nullable, nulls):
    if nullable and r.random() < nulls:
        return None
    if pa.types.is_integer(t):
        most = 1 << t.bit_width - 1
        return r.choice([-most, most - 1, 0, r.randrange(-most, most)])
    if pa.types.is_floating(t):
        return r.choice([0.0, -1.5, 0.1, float("inf"), float("-inf"), float("nan"), 2.0**-20])
    if pa.types.is_boolean(t):
        return r.random() < 0.5
    if pa.types.is_string(t):
        return r.choice(TEXTS)
    if pa.types.is_binary(t):
        return bytes(r.randrange(256) for _ in range(r.randrange(5)))
    if pa.types.is_date(t):
        return datetime.date(1, 1, 1) + datetime.timedelta(days=r.choice([0, 719161, 719162, 3652058, r.randrange(3652059)]))
    if pa.types.is_timestamp(t):
        start = datetime.datetime(1, 1, 1, tzinfo=UTC)
        return start + datetime.timedelta(microseconds=r.choice([0, 62135596799999999, 62135596800000000, 315537897599999999, r.randrange(315537897600000000)]))
    if pa.types.is_decimal(t):
        most = 10**t.precision - 1
        digits = r.choice([-most, most, 0, 1, r.randrange(-most, most)])
        return decimal.Decimal(digits).scaleb(-t.scale, decimal.Context(prec=80))
    if pa.types.is_list(t):
        return [random_value(r, t.value_type, t.value_field.nullable, nulls) for _ in range(r.choice([0, 0, 1, 2, 3]))]
    if pa.types.is_struct(t):
        return {f.name: random_value(r, f.type, f.nullable, nulls) for f in t}
    return [("k%d" % i, random_value(r, t.item_type, t.item_field.nullable, nulls)) for i in range(r.choice([0, 1, 2]))]


def random_rows(r, fields, n, nulls, first=0):
    rows = [{f.name: random_value(r, f.type, f.nullable, nulls) for f in fields} for _ in range(n)]
    for i, row in enumerate(rows):
        row["id"] = first + i
    return pa.Table.from_pylist(rows, schema=pa.schema([pa.field("id", pa.int64(), nullable=False), *fields]))


def nested(uri, out, seed):
    """A table of random types, in one file of delta-rs and, as convert_to_deltalake takes
    any, one of another writer with other settings."""
    r = random.Random(seed)
    fields = [pa.field("c%d" % i, random_type(r, 3), nullable=r.random() < 0.8) for i in range(r.randrange(1, 6))]
    rows = random_rows(r, fields, r.choice([0, 1, 2, 9, 64, 65, 700]), r.choice([0, 0.1, 0.5, 0.9]))
    if r.random() < 0.5:
        write_deltalake(uri, rows)
    else:
        os.makedirs(uri)
        pq.write_table(
            rows, uri + "/others.parquet", row_group_size=r.choice([3, 64, 1000]), use_dictionary=r.random() < 0.5,
            compression=r.choice(["snappy", "zstd", "none", "gzip", "lz4"]), store_schema=r.random() < 0.5, data_page_version=r.choice(["1.0", "2.0"]),
            data_page_size=r.choice([100, 1000, 1 << 20]), write_batch_size=r.choice([1, 7, 1024]), store_decimal_as_integer=r.random() < 0.5,
        )
        convert_to_deltalake(uri)
    engine.save(rows, out)
    return [str(f) for f in rows.schema]


def old_timestamps(uri, out, unit):
    """A table whose timestamps are INT96, or INT64 of some unit, also inside of others."""
    times = [datetime.datetime(*t, tzinfo=UTC) for t in [
        (1, 1, 1), (1582, 10, 4), (1582, 10, 15, 1, 2, 3), (1677, 9, 21), (1900, 1, 1), (1969, 12, 31, 23, 59, 59, 999000), (1970, 1, 1), (2026, 2, 28, 12, 30),
        (2262, 4, 12), (9999, 12, 31, 23, 59, 59, 999000),
    ]]
    if unit == "ns":
        times = [t for t in times if 1700 < t.year < 2262]
    n, at = len(times), pa.timestamp("ns" if unit == "ns" else "us", "UTC")
    rows = pa.table({
        "id": pa.array(range(n + 1), pa.int64()), "t": pa.array([*times, None], at), "l": pa.array([times, *([[t, None] for t in times[1:]]), None], pa.list_(at)),
        "s": pa.array([*({"t": t, "n": {"t": None}} for t in times), None], pa.struct([("t", at), ("n", pa.struct([("t", at)]))])),
        "m": pa.array([*([("a", t), ("b", None)] for t in times), None], pa.map_(pa.string(), at)),
    })
    os.makedirs(uri)
    if unit == "int96":
        pq.write_table(rows, uri + "/old.parquet", use_deprecated_int96_timestamps=True, row_group_size=4, store_schema=False)
    else:
        pq.write_table(rows, uri + "/old.parquet", coerce_timestamps=None if unit == "ns" else unit, row_group_size=4, store_schema=False, version="2.6")
    # The log is of another, whose files have microseconds: delta-rs takes the unit for the table's.
    write_deltalake(uri + "-log", rows.slice(0, 0))
    os.makedirs(uri + "/_delta_log")
    with open(uri + "-log/_delta_log/00000000000000000000.json") as src, open(uri + "/_delta_log/00000000000000000000.json", "w") as dst:
        dst.writelines(l.strip() + "\n" for l in src if '"add"' not in l)
        add = {"path": "old.parquet", "partitionValues": {}, "size": os.path.getsize(uri + "/old.parquet"), "modificationTime": 0, "dataChange": True}
        dst.write(json.dumps({"add": add}) + "\n")
    engine.save(rows, out)
    return str(pq.ParquetFile(uri + "/old.parquet").schema)


def partition_values(t):
    special = {
        "string": ["a", "a/b c=d%20&e", "é漢:?#[]{}^*<>|", "back\\slash", "quote\"'", " ", "%2F", "..", "new\nline", "~", "+"],
        "float": [0.1, -1.5, float("inf"), float("-inf")], "double": [0.1, -1.5e10, float("inf"), float("-inf")],
        "decimal128(38, 10)": [decimal.Decimal("1234567890123456789012345678.0123456789"), decimal.Decimal("0.0000000001"), decimal.Decimal(0)],
        "decimal128(5, 2)": [decimal.Decimal("999.99"), decimal.Decimal("1.10"), decimal.Decimal("-5.00")],
        "binary": [b"abc", b"\x00\xff", b"\\u0041"], "bool": [True, False], "date32[day]": [datetime.date(1, 1, 1), datetime.date(1969, 12, 31), datetime.date(9999, 12, 31)],
        "timestamp[us, tz=UTC]": [datetime.datetime(1, 1, 1, tzinfo=UTC), datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)],
    }
    if pa.types.is_integer(t):
        return [-(1 << t.bit_width - 1), (1 << t.bit_width - 1) - 1, 0]
    return special[str(t)]


def partitioned(uri, out):
    """Tables partitioned by one column of each type, in uri/<number>; returns the types."""
    types = [pa.string(), pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.float32(), pa.float64(), pa.decimal128(38, 10), pa.decimal128(5, 2), pa.binary(), pa.bool_(), pa.date32(), pa.timestamp("us", "UTC")]
    for n, t in enumerate(types):
        values = [*partition_values(t), None]
        rows = pa.table({"id": pa.array(range(len(values)), pa.int64()), "P q": pa.array(values, t), "z": pa.array(["x"] * len(values))})
        write_deltalake("%s/%d" % (uri, n), rows, partition_by=["P q"])
        engine.save(rows, "%s%d" % (out, n))
    return [str(t) for t in types]


class Life:
    """A table and what happens to it, at random."""

    def __init__(self, uri, seed):
        self.uri, self.r, self.next, self.columns = uri, random.Random(seed), 0, 0
        simple = [t for t in PRIMITIVES if t not in (pa.float32(), pa.float64())]  # NaN is a matter of filters
        self.fields = [pa.field("c%d" % i, random_type(self.r, 1, simple)) for i in range(self.r.randrange(1, 4))]
        self.partitioned = self.r.random() < 0.7
        if self.partitioned:
            self.fields.append(pa.field("p", pa.string()))
        properties = {"delta.checkpointInterval": self.r.choice(["3", "5", "100"])}
        write_deltalake(uri, self.rows(), partition_by=["p"] if self.partitioned else None, configuration=properties)

    def rows(self):
        n = self.r.choice([1, 3, 40])
        rows = random_rows(self.r, self.fields, n, self.r.choice([0, 0.2, 0.6]), self.next)
        self.next += n
        return rows

    def table(self):
        return DeltaTable(self.uri)

    def append(self):
        properties = CommitProperties(app_transactions=[Transaction("app%d" % self.r.randrange(3), self.next)])
        write_deltalake(self.uri, self.rows(), mode="append", commit_properties=properties)

    def overwrite(self):
        write_deltalake(self.uri, self.rows(), mode="overwrite")

    def delete(self):
        self.table().delete("id %% 5 = %d" % self.r.randrange(5))

    def update(self):
        self.table().update(updates={"id": "id + 1000000"}, predicate="id < %d" % self.r.randrange(self.next + 1))

    def compact(self):
        self.table().optimize.compact()

    def checkpoint(self):
        self.table().create_checkpoint()

    def restore(self):
        t = self.table()
        if t.version() > 2 and not self.columns:
            t.restore(self.r.randrange(max(0, t.version() - 3), t.version()))

    def evolve(self):
        self.fields.append(pa.field("n%d" % self.columns, self.r.choice([pa.string(), pa.int64(), pa.list_(pa.int32())])))
        self.columns += 1
        write_deltalake(self.uri, self.rows(), mode="append", schema_mode="merge")

    def step(self):
        step = self.r.choice([self.append, self.append, self.append, self.overwrite, self.delete, self.update, self.compact, self.checkpoint, self.restore, self.evolve])
        step()
        return step.__name__


def life(uri, out, seed, steps):
    """A table's life; returns, by version, what delta-rs makes of it, with its rows in out<version>."""
    table = Life(uri, seed)
    names = [table.step() for _ in range(steps)]
    versions = []
    for v in range(table.table().version() + 1):
        t = DeltaTable(uri, version=v)
        rows = t.to_pyarrow_table()
        engine.save(rows, "%s%d" % (out, v))
        actions = pa.table(t.get_add_actions(flatten=True))
        versions.append({
            "columns": rows.schema.names, "files": actions.num_rows, "rows": sum(actions["num_records"].to_pylist()), "bytes": sum(actions["size_bytes"].to_pylist()),
            "id": str(t.metadata().id), "partition_by": t.metadata().partition_columns, "properties": t.metadata().configuration,
            "reader": t.protocol().min_reader_version, "writer": t.protocol().min_writer_version, "paths": sorted(actions["path"].to_pylist()),
        })
    return {"steps": names, "versions": versions}


def parquet(path, out):
    """What Arrow's own reader makes of a Parquet file."""
    f = pq.ParquetFile(path)
    engine.save(f.read(), out)
    return f.schema_arrow.names


if __name__ == "__main__":
    engine.serve({"nested": nested, "old_timestamps": old_timestamps, "partitioned": partitioned, "life": life, "parquet": parquet})
