"""Apply each message exactly once: its effect and the position are stored in one transaction.

python examples/stored_position.py orders.sqlite3
"""

import asyncio
import json
import sqlite3
import sys

import pubsubd

TABLES = "create table if not exists orders (id); create table if not exists place (position);"


def store(database: sqlite3.Connection, position: dict[str, object]) -> None:
    database.execute("delete from place")
    database.execute("insert into place values (?)", [json.dumps(position)])


async def main(path: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    row = database.execute("select position from place").fetchone() or ["null"]
    async with (
        pubsubd.connect() as client,
        client.subscribe("orders.>", position=json.loads(row[0])) as subscription,
    ):
        with database:  # The position is set before the first message.
            store(database, dict(subscription.position))
        print("reading", flush=True)
        async for message in subscription:
            with database:
                database.execute("insert into orders values (?)", [message.payload["id"]])
                store(database, dict(subscription.position))
            print("stored", message.payload["id"], flush=True)


asyncio.run(main(*sys.argv[1:2] or ["orders.sqlite3"]))
