"""Identity of a client: the id under which a broker knows its publisher and its sessions."""

from __future__ import annotations

import os
from typing import Final

from pubsubd.forks import begins_anew
from pubsubd_protocol.frames import MAGIC, VERSION, Hello

ID_BYTES: Final = 16


class Identity:
    """Belongs to one object in one process. Drawn from the system's entropy when it is first needed.

    Batches are numbered under it: two processes that share an id would get each other's receipts. So
    the copy of an object, and of a process, draws its own.
    """

    __slots__ = ("__weakref__", "_id", "spoke_to")

    def __init__(self) -> None:
        self.spoke_to: bytes | None = None
        """The broker's life that last welcomed the publisher: by it a broker tells that it was restarted
        from that it has forgotten a batch.
        """
        self._id: bytes | None = None
        begins_anew(self)

    def renew(self) -> None:
        """Forgets the id. The next greeting draws another, which no broker has heard of."""
        self.spoke_to = None
        self._id = None

    def forked(self) -> None:
        self.renew()

    def hello(self, role: str) -> Hello:
        """The greeting of a connection in `role`."""
        if self._id is None:
            self._id = os.urandom(ID_BYTES)
        return Hello(MAGIC, VERSION, VERSION, role, "", self._id, self.spoke_to)
