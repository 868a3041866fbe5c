"""Bring the database up to date: run each file of migrations/ that has not run yet, in the order of their names."""

import os
import pathlib

import psycopg2

MIGRATIONS = pathlib.Path(__file__).parent / "migrations"
# Any number will do, as long as all who migrate take the same lock.
LOCK = 20230610

with psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5) as database, database.cursor() as cursor:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    cursor.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT now())"
    )
    cursor.execute("SELECT name FROM migrations")
    done = {name for (name,) in cursor.fetchall()}
    for path in sorted(MIGRATIONS.glob("*.sql")):
        if path.name not in done:
            cursor.execute(path.read_text(encoding="utf-8"))
            cursor.execute("INSERT INTO migrations (name) VALUES (%s)", (path.name,))
            print(f"ran {path.name}")
print("the database is up to date")
