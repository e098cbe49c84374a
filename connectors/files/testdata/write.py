"""Writes Parquet and Avro files with every type there is a JSON form of, and beside
each file what its rows are in that form, one a line."""

import base64
import datetime as dt
import decimal
import json
import sys
import uuid
from pathlib import Path

try:
    import fastavro
    import cramjam  # for snappy
except ImportError as missing:
    print(missing)
    sys.exit(3)
import pyarrow as pa
import pyarrow.parquet as pq

out = Path(sys.argv[1])
ROWS = 3000
UTC = dt.timezone.utc


def stamp(t, utc=True):
    text = t.strftime("%Y-%m-%dT%H:%M:%S")
    if t.microsecond:
        text += ("." + f"{t.microsecond:06d}").rstrip("0")
    return text + ("Z" if utc else "")


def clock(t):
    text = t.strftime("%H:%M:%S")
    return text + (("." + f"{t.microsecond:06d}").rstrip("0") if t.microsecond else "")


class Raw(float):
    """A number that is written digit by digit."""

    def __new__(cls, text):
        self = float.__new__(cls, float(text))
        self.text = text
        return self

    def __repr__(self):
        return self.text


def row(i):
    null = i % 7 == 3
    amount = decimal.Decimal(i - 1500) * decimal.Decimal("12345678901234567.89") / 1
    amount = amount.quantize(decimal.Decimal("0.01"))
    at = dt.datetime(1969, 12, 31, 23, 59, 59, 1000, tzinfo=UTC) + dt.timedelta(hours=i * 11, microseconds=i)
    return {
        "id": i * 3_000_000_000_001 - 5,
        "small": i - 1500,
        "text": None if null else f'é "{i}" \\ \n\t☃ 😀',
        "ratio": None if null else i / 7,
        "flag": i % 2 == 0,
        "blob": bytes(range(i % 40)),
        "amount": None if null else amount,
        "day": dt.date(1960, 2, 29) + dt.timedelta(days=i * 13),
        "at": at,
        "clock": dt.time(i % 24, i % 60, 7, i),
        "tags": [] if i % 5 == 0 else [f"t{i}", f"u{i}"],
        "inner": {"a": i, "b": {"c": f"x{i}"}},
        "counts": {f"k{i}": i, "z": -1},
    }


def expected(r):
    e = dict(r)
    e["blob"] = base64.b64encode(r["blob"]).decode()
    e["amount"] = None if r["amount"] is None else Raw(str(r["amount"]))
    e["day"] = r["day"].isoformat()
    e["at"] = stamp(r["at"])
    e["clock"] = clock(r["clock"])
    return e


def dump(name, rows):
    # The C encoder asks floats for their own repr; Raw needs the Python one.
    def enc(v):
        if isinstance(v, Raw):
            return v.text
        if isinstance(v, dict):
            return "{" + ",".join(json.dumps(k) + ":" + enc(x) for k, x in v.items()) + "}"
        if isinstance(v, list):
            return "[" + ",".join(enc(x) for x in v) + "]"
        if isinstance(v, float):
            return repr(v).removesuffix(".0")
        return json.dumps(v, ensure_ascii=False)

    (out / (name + ".expected")).write_text("".join(enc(r) + "\n" for r in rows))


rows = [row(i) for i in range(ROWS)]
want = [expected(r) for r in rows]

schema = pa.schema([
    pa.field("id", pa.int64(), nullable=False),
    ("small", pa.int32()),
    ("text", pa.string()),
    ("ratio", pa.float64()),
    ("flag", pa.bool_()),
    ("blob", pa.binary()),
    ("amount", pa.decimal128(30, 2)),
    ("day", pa.date32()),
    ("at", pa.timestamp("us", tz="UTC")),
    ("clock", pa.time64("us")),
    ("tags", pa.list_(pa.string())),
    ("inner", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))])),
    ("counts", pa.map_(pa.string(), pa.int64())),
])
table = pa.Table.from_pylist([{**r, "counts": list(r["counts"].items())} for r in rows], schema=schema)
for name, how in {
    "plain.parquet": dict(compression="none", use_dictionary=False),
    "snappy.parquet": dict(compression="snappy", row_group_size=700),
    "zstd.parquet": dict(compression="zstd", data_page_version="2.0", data_page_size=5000),
    "gzip.parquet": dict(compression="gzip", row_group_size=1),
    "int96.parquet": dict(use_deprecated_int96_timestamps=True),
    "delta.parquet": dict(use_dictionary=False, column_encoding={"id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"}),
}.items():
    pq.write_table(table.slice(0, 20) if name == "gzip.parquet" else table, out / name, **how)
    dump(name, want[:20] if name == "gzip.parquet" else want)

avro_schema = fastavro.parse_schema({
    "type": "record", "name": "Row", "namespace": "test",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "small", "type": "int"},
        {"name": "text", "type": ["null", "string"]},
        {"name": "ratio", "type": ["double", "null"]},
        {"name": "flag", "type": "boolean"},
        {"name": "blob", "type": "bytes"},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "clock", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [
            {"name": "a", "type": "long"},
            {"name": "b", "type": {"type": "record", "name": "Deep", "fields": [{"name": "c", "type": "string"}]}},
        ]}},
        {"name": "counts", "type": {"type": "map", "values": "long"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 3}},
        {"name": "fixed_amount", "type": {"type": "fixed", "name": "Amount", "size": 9, "logicalType": "decimal", "precision": 20, "scale": 3}},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "f", "type": "float"},
        {"name": "list", "type": ["null", {
            "type": "record", "name": "Node", "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "Node"]}]}]},
    ],
})
avro_rows, avro_want = [], []
for i, (r, e) in enumerate(zip(rows, want)):
    node = {"v": i, "next": {"v": i + 1, "next": None}} if i % 3 else None
    u = uuid.UUID(int=i)
    more = {"kind": "AB"[i % 2], "key": bytes([i % 256, 0, 255]), "fixed_amount": decimal.Decimal(1500 - i).scaleb(-3),
            "uuid": u, "f": i / 4, "list": node}
    avro_rows.append({**r, **more})
    avro_want.append({**e, **more, "key": base64.b64encode(more["key"]).decode(),
                      "fixed_amount": Raw(f"{decimal.Decimal(1500 - i).scaleb(-3):.3f}"), "uuid": str(u)})
for codec in ["null", "deflate", "bzip2", "snappy", "zstandard"]:
    name = codec + ".avro"
    with open(out / name, "wb") as f:
        fastavro.writer(f, avro_schema, avro_rows, codec=codec, sync_interval=20_000)
    dump(name, avro_want)
