"""Identity of a client: the id by which a broker knows its publisher and its sessions."""

from __future__ import annotations

import os
from typing import Final

from pubsubd.forks import begins_anew
from pubsubd_protocol.frames import MAGIC, VERSION, Hello

ID_BYTES: Final = 16


class Identity:
    """The id of one object in one process, drawn from the system's entropy on first use.

    The broker numbers batches by it: two processes with one id would get each other's receipts. Therefore a copy, and
    a forked child, draws an id of its own.
    """

    __slots__ = ("__weakref__", "_id", "spoke_to")

    def __init__(self) -> None:
        self.spoke_to: bytes | None = None
        """The broker life that last welcomed the publisher. By it, a broker tells a restart from a forgotten batch."""
        self._id: bytes | None = None
        begins_anew(self)

    def renew(self) -> None:
        """Forget the id. The next greeting draws a new one."""
        self.spoke_to = None
        self._id = None

    def forked(self) -> None:
        self.renew()

    def hello(self, role: str) -> Hello:
        """The greeting of a connection in `role`."""
        if self._id is None:
            self._id = os.urandom(ID_BYTES)
        return Hello(MAGIC, VERSION, VERSION, role, "", self._id, self.spoke_to)
