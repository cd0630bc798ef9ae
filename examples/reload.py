"""Keep a picture of the orders in memory, and reload it where messages are lost.

python examples/reload.py        # kill -9 the broker, and start it again
"""

import asyncio

import pubsubd

orders: dict[int, str] = {}


async def load() -> None:
    """Stands for a query: what is stored before an event of it is published."""
    orders.clear()


async def reload(expired: pubsubd.CursorExpired) -> None:
    await load()
    print(f"reloaded: node {expired.node} lost messages ({expired.reason.value})", flush=True)


async def main() -> None:
    # Subscriptions that share `on_expired` share one reload.
    on_expired = pubsubd.single_flight(reload, jitter_s=0.1)
    async with (
        pubsubd.connect() as client,
        client.subscribe("orders.*", on_expired=on_expired) as subscription,
    ):
        await load()  # First the position, then the picture, then the messages after the position.
        print("loaded", flush=True)
        async for message in subscription:
            orders[message.payload["id"]] = message.topic.rpartition(".")[2]
            print(orders, flush=True)


asyncio.run(main())
