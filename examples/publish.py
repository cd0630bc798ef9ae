"""Publish in three ways: one message, one batch, a pipeline.

python examples/publish.py       # the broker at $PUBSUBD_SOCKET, or at the default socket
"""

import asyncio

import pubsubd


async def main() -> None:
    async with pubsubd.connect() as client:
        # Returns when the broker has accepted the message. The receipt says where it stands.
        receipt = await client.publish("orders.created", {"id": 1})
        print(f"accepted by node {receipt.node} at offset {receipt.offset}")

        # One batch, one wait.
        receipts = await client.publish_many("orders.paid", [{"id": 1}, {"id": 2}])
        print(f"accepted at offsets {[each.offset for each in receipts]}")

        # `send` waits only while the window is full; `flush` raises what failed.
        for number in range(1000):
            await client.send("orders.shipped", {"id": number})
        await client.flush()
        print("accepted: all that was sent")


asyncio.run(main())
