"""The blocking SDK, for programs without an event loop: the names and errors of `pubsubd`, without `await`.

No thread and no event loop runs behind it. All that a client does, it does inside the application's calls.
"""

from pubsubd.sync.client import Client, connect
from pubsubd.sync.subscription import Subscription

__all__ = ["Client", "Subscription", "connect"]
