"""The guestbook: one page that lists the entries, and a form that adds one."""

import contextlib
import json
import os
import socket

import psycopg2
import psycopg2.extras
import redis
from flask import Flask, redirect, render_template, request

CACHE_KEY = "guestbook:entries"
CACHE_SECONDS = 30
NEWEST_ENTRIES = """
    SELECT name, message, to_char(written_at, 'YYYY-MM-DD HH24:MI') AS written_at
    FROM entries ORDER BY id DESC LIMIT 50
"""
HOSTNAME = socket.gethostname()

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=1, socket_connect_timeout=1)


@contextlib.contextmanager
def database():
    """Open the database for one transaction; what it yields is a cursor whose rows are dictionaries."""
    connection = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=3)
    try:
        with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            yield cursor
    finally:
        connection.close()


def entries():
    """Return the newest entries, from the cache where it has them."""
    try:
        cached = cache.get(CACHE_KEY)
        if cached:
            return json.loads(cached), "cache"
    except redis.RedisError:
        app.logger.warning("the cache does not answer")
    with database() as cursor:
        cursor.execute(NEWEST_ENTRIES)
        found = [dict(row) for row in cursor.fetchall()]
    try:
        cache.set(CACHE_KEY, json.dumps(found), ex=CACHE_SECONDS)
    except redis.RedisError:
        pass
    return found, "database"


def count_visit():
    """Count a visit; the count lives in the cache, so it starts again when the cache does."""
    try:
        return cache.incr("guestbook:visits")
    except redis.RedisError:
        return None


@app.get("/")
def page():
    found, source = entries()
    body = render_template("page.html", entries=found, source=source, hostname=HOSTNAME, visits=count_visit())
    return body, {"X-Served-By": HOSTNAME, "Cache-Control": "no-store"}


@app.post("/entries")
def add():
    name = request.form.get("name", "").strip()[:80] or "somebody"
    message = request.form.get("message", "").strip()[:1000]
    if not message:
        return "an entry needs a message\n", 400
    with database() as cursor:
        cursor.execute("INSERT INTO entries (name, message) VALUES (%s, %s)", (name, message))
    try:
        cache.delete(CACHE_KEY)
    except redis.RedisError:
        app.logger.warning("the cache does not answer")
    return redirect("/", code=303)


@app.get("/health")
def health():
    with database() as cursor:
        cursor.execute("SELECT 1")
    return "ok\n"
