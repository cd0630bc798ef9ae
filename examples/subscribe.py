"""Print each message of some topics, and go on after a gap.

python examples/subscribe.py 'orders.>' 'rooms.*.joined'
"""

import asyncio
import sys

import pubsubd


async def main(patterns: list[str]) -> None:
    async with pubsubd.connect() as client, client.subscribe(*patterns) as subscription:
        # Messages published from here on are printed, or reported as lost.
        print("subscribed to", *subscription.patterns, flush=True)
        async for event in subscription.events():
            match event:
                case pubsubd.Message(topic=topic, payload=payload):
                    print(topic, payload, flush=True)
                case pubsubd.CursorExpired(node=node, missed=missed):
                    print(f"lost {missed} messages of node {node}", flush=True)


asyncio.run(main(sys.argv[1:] or [">"]))
