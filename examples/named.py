"""Resume where the last run ended: the broker keeps the position under a name.

python examples/named.py         # end it, publish meanwhile, and start it again
"""

import asyncio

import pubsubd


async def main() -> None:
    async with (
        pubsubd.connect() as client,
        client.subscribe("orders.>", name="mailer", ack="manual") as subscription,
    ):
        print("resumed" if subscription.resumed else "new", flush=True)
        async for message in subscription:
            print(f"mail about {message.payload}", flush=True)
            # After the work: a run that dies before this line gets the message again.
            await subscription.ack(message)


asyncio.run(main())
