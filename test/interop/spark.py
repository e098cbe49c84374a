"""Spark with Delta for the interop tests: it runs SQL, and reads tables whole and with
filters. TIDEMILL_TEST_SPARK is the directory of jars.
"""

import glob
import json
import os
import shutil
import tempfile

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

import engine

conf = {
    "spark.master": "local[2]",
    "spark.driver.memory": "1g",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraClassPath": os.path.join(os.environ["TIDEMILL_TEST_SPARK"], "*"),
    "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.warehouse.dir": os.getcwd(),
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    # Questions are many and tables small: what takes time is planning, and compiling plans.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
}
builder = SparkSession.builder
for k, v in conf.items():
    builder = builder.config(k, v)
spark = builder.getOrCreate()


def settings(values):
    """Sets what may be set while a session lives; null takes it back. fs.s3a.* are Hadoop's."""
    for k, v in (values or {}).items():
        if k.startswith("fs."):
            spark.sparkContext._jsc.hadoopConfiguration().set(k, v)
        elif v is None:
            spark.conf.unset(k)
        else:
            spark.conf.set(k, v)


def sql(statements):
    for s in statements:
        spark.sql(s).collect()


def frame(uri, version=None):
    r = spark.read.format("delta")
    if version is not None:
        r = r.option("versionAsOf", version)
    return r.load(uri.replace("s3://", "s3a://", 1))


def rows(df):
    batches = df._collect_as_arrow()
    if batches:
        return pa.Table.from_batches(batches)
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(df.schema).empty_table()


def scan(uri, out, version=None):
    df = frame(uri, version)
    return {"rows": engine.save(rows(df), out), "files": len(df.inputFiles())}


def versions(uri):
    """The versions that the table's history has, in order."""
    h = spark.sql("DESCRIBE HISTORY delta.`%s`" % uri.replace("s3://", "s3a://", 1))
    return sorted(r.version for r in h.select("version").collect())


def parse_stats(uri, version):
    """Leaves a checkpoint with statistics as columns only, as Databricks writes it. Delta's
    own Spark writes the columns of partition values, and no statistics at all."""
    log = uri.removeprefix("file://") + "/_delta_log/"
    checkpoint = log + "%020d.checkpoint.parquet" % version
    stats = spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, uri).unsafeVolatileSnapshot().statsSchema()
    schema = StructType.fromJson(json.loads(stats.json()))
    parsed = F.from_json("add.stats", schema, {"allowNonNumericNumbers": "true"})
    df = spark.read.parquet(checkpoint).withColumn("add", F.col("add").withField("stats_parsed", parsed).dropFields("stats"))
    with tempfile.TemporaryDirectory() as tmp:
        df.coalesce(1).write.parquet(tmp + "/out")
        (part,) = glob.glob(tmp + "/out/part-*.parquet")
        shutil.copyfile(part, checkpoint)
    crc = log + ".%020d.checkpoint.parquet.crc" % version
    if os.path.exists(crc):
        os.remove(crc)


def literal(t, v):
    if t == "string":
        return "'" + v.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "CAST('%s' AS %s)" % (v, {"long": "BIGINT", "integer": "INT", "short": "SMALLINT", "byte": "TINYINT"}.get(t, t.upper()))


def condition(f):
    column = ".".join("`%s`" % c for c in f["column"].split("."))
    if f["op"].startswith("IS"):
        return column + " " + f["op"]
    return "%s %s %s" % (column, f["op"], literal(f["type"], f["value"]))


def matching(uri, filters, version=None):
    df = frame(uri, version)
    out = [[] for _ in filters]
    # Each branch of a union is planned, and prunes files, by itself; a job for each takes longer.
    for first in range(0, len(filters), 16):
        union = None
        for i, f in enumerate(filters[first:first + 16], first):
            branch = df.where(condition(f)).selectExpr("%d AS filter" % i, "id")
            union = branch if union is None else union.unionAll(branch)
        t = rows(union)
        for i, id in zip(t["filter"].to_pylist(), t["id"].to_pylist()):
            out[i].append(id)
    return [sorted(ids) for ids in out]


if __name__ == "__main__":
    engine.serve({"settings": settings, "sql": sql, "scan": scan, "versions": versions, "parse_stats": parse_stats, "matching": matching})
    spark.stop()
