"""A subscriber that only counts, in a process of its own: `python -m tests.integration.counting_reader SOCKET COUNT`.

Prints "open", then "counted N", or the error that ended it.
"""

from __future__ import annotations

import asyncio
import sys

import pubsubd


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def count(socket: str, expected: int) -> str:
    async with (
        pubsubd.connect(socket, codec=pubsubd.RAW) as client,
        client.subscribe(">") as subscription,
    ):
        say("open")
        counted = 0
        async for event in subscription.events():
            if isinstance(event, pubsubd.CursorExpired):
                return f"expired after {counted}: {event}"
            if event.offset != counted:
                return f"offset {event.offset} after {counted} messages"
            counted += 1
            if counted == expected:
                return f"counted {counted}"
    return f"the subscription ended after {counted}"


if __name__ == "__main__":
    say(asyncio.run(count(sys.argv[1], int(sys.argv[2]))))
