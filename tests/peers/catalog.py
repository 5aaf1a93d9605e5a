"""What DuckDB and DataFusion read of a catalogue, straight from its bucket.

    catalog.py URL KEY SECRET BUCKET PREFIX DOCS [SQL]

With SQL it prints what DuckDB answers, and no more. Otherwise
prints, as JSON, how many rows each table has, studies joined down to findings, and what the queries of docs/catalog.md answer. Fails where the
two engines differ, and where a table's columns are not those that docs/catalog.md has, in its order and of its types.
"""

import datetime
import decimal
import json
import pathlib
import re
import sys

import datafusion
import duckdb
import duckdb_extension_httpfs
import pyarrow
from datafusion.object_store import AmazonS3

URL, KEY, SECRET, BUCKET, PREFIX, DOCS = sys.argv[1:7]
TABLES = ["study", "series", "instance", "finding", "verdict", "run"]
JOINED = """
SELECT t.study_instance_uid, s.series_instance_uid, i.sop_instance_uid, i.object_sha256, i.bytes, t.patient, t.study_date,
       s.slice_thickness_mm, i.rows, i.position_z_mm, f.finding, f.code_value, f.value, f.probability, t.site, t.date
FROM study_latest t
JOIN series_latest s ON s.site = t.site AND s.study_instance_uid = t.study_instance_uid
JOIN instance_latest i ON i.site = s.site AND i.series_instance_uid = s.series_instance_uid
JOIN finding_latest f ON f.site = t.site AND f.study_instance_uid = t.study_instance_uid
ORDER BY i.sop_instance_uid, f.finding
"""


def docs():
    """Columns of each table, views, queries."""
    text = pathlib.Path(DOCS).read_text(encoding="utf-8")
    columns = {}
    for table in TABLES:
        section = text.split(f"\n### {table}\n", 1)[1].split("\n### ", 1)[0]
        own = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
        # Engines differ in the order of those in the key.
        columns[table] = [*own, ("date", "DATE"), ("site", "VARCHAR")]
    views = re.findall(r"^(\w+_latest) +(SELECT .*)$", text, re.MULTILINE)
    return columns, views, re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def plain(value):
    if isinstance(value, datetime.date):
        return value.isoformat()
    return float(value) if isinstance(value, decimal.Decimal) else value


class DuckDb:
    def __init__(self, views):
        folder = pathlib.Path(duckdb_extension_httpfs.__file__).parent
        (extension,) = folder.glob("extensions/*/httpfs.duckdb_extension")
        # Nothing may be fetched.
        self.connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
        self.connection.execute(f"LOAD '{extension}'")
        host = URL.split("://", 1)[1]
        self.connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{KEY}', SECRET '{SECRET}', REGION 'us-east-1', ENDPOINT '{host}', "
            "URL_STYLE 'path', USE_SSL false)"
        )
        for table in TABLES:
            files = f"s3://{BUCKET}/{PREFIX}catalog/{table}/*/*/*.parquet"
            self.connection.execute(
                f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)"
            )
        for name, select in views:
            self.connection.execute(f"CREATE VIEW {name} AS {select}")

    def columns(self, table):
        return [(name, kind) for name, kind, *_ in self.connection.execute(f"DESCRIBE {table}").fetchall()]

    def rows(self, query):
        return [[plain(value) for value in row] for row in self.connection.execute(query).fetchall()]


class DataFusion:
    NAMES = {
        pyarrow.string(): "VARCHAR",
        pyarrow.string_view(): "VARCHAR",
        pyarrow.int32(): "INTEGER",
        pyarrow.int64(): "BIGINT",
        pyarrow.float64(): "DOUBLE",
        pyarrow.bool_(): "BOOLEAN",
        pyarrow.date32(): "DATE",
    }

    def __init__(self, views):
        self.context = datafusion.SessionContext()
        store = AmazonS3(BUCKET, "us-east-1", KEY, SECRET, None, URL, True)
        self.context.register_object_store("s3://", store, BUCKET)
        partitions = [("site", pyarrow.string()), ("date", pyarrow.date32())]
        for table in TABLES:
            self.context.register_listing_table(table, f"s3://{BUCKET}/{PREFIX}catalog/{table}/", partitions)
        for name, select in views:
            self.context.sql(f"CREATE VIEW {name} AS {select}").collect()

    def columns(self, table):
        schema = self.context.sql(f"SELECT * FROM {table}").schema()
        return [(field.name, self.NAMES.get(field.type, str(field.type))) for field in schema]

    def rows(self, query):
        batches = self.context.sql(query).collect()
        return [[plain(value) for value in row.values()] for batch in batches for row in batch.to_pylist()]


def same(one, other):
    """Sums of floats may differ in their last digit."""
    if isinstance(one, float) and isinstance(other, (float, int)):
        return abs(one - other) <= 1e-9 * max(1.0, abs(one))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def main():
    columns, views, queries = docs()
    if len(sys.argv) > 7:
        json.dump(DuckDb(views).rows(sys.argv[7]), sys.stdout)
        return
    assert len(queries) >= 3 and len(views) == len(TABLES), "docs/catalog.md lacks queries or views"
    said = []
    for engine in (DuckDb(views), DataFusion(views)):
        name = type(engine).__name__
        for table in TABLES:
            there = engine.columns(table)
            there = there[:-2] + sorted(there[-2:])
            assert there == columns[table], f"{name} sees of {table} {there}, and documented are {columns[table]}"
        counted = {table: engine.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
        latest = {table: engine.rows(f"SELECT count(*) FROM {table}_latest")[0][0] for table in TABLES}
        answers = [engine.rows(query) for query in queries]
        # One day and one site alone, by the key.
        days = engine.rows("SELECT date, count(*) FROM study GROUP BY date ORDER BY date")
        said.append({"rows": counted, "latest": latest, "days": days, "joined": engine.rows(JOINED), "queries": answers})
    duck, fusion = said
    for key in duck:
        one, other = (json.loads(json.dumps(side[key])) for side in said)
        one, other = ([*x.values()] if isinstance(x, dict) else x for x in (one, other))
        assert same(one, other), f"{key}: DuckDB says {one} and DataFusion {other}"
    json.dump(duck, sys.stdout)


main()
