"""Local users: the account of each, its rights, and the names under which it is known here."""

from __future__ import annotations

from hashlib import blake2b

from pubsubd_broker.core.access.permissions import AllowedUsers, Rights, TopicRules
from pubsubd_broker.core.access.quota import Claimant
from pubsubd_broker.core.access.remote import Remote
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.fields import MAX_SESSION_NAME


class LocalUsers:
    """Judges by the user id that the kernel tells. Where it tells none, the mode of the socket has decided."""

    __slots__ = ("_allowed_users", "_topic_rules")

    def __init__(self, allowed_users: AllowedUsers, topic_rules: TopicRules) -> None:
        self._allowed_users = allowed_users
        self._topic_rules = topic_rules

    def is_operator(self, remote: Remote) -> bool:
        """Whether the user may change what is kept of others: root, and the broker's own."""
        return remote.uid in (None, 0, self._allowed_users.own)

    def claimant(self, remote: Remote) -> Claimant:
        """The account on which a connection takes of shared quotas. An operator comes first."""
        return Claimant(remote.origin, remote.host is None and self.is_operator(remote))

    def rights_of(self, remote: Remote) -> Rights:
        """The topics to which a local user may publish and subscribe."""
        uid = -1 if remote.uid is None else remote.uid
        gid = -1 if remote.gid is None else remote.gid
        return self._topic_rules.for_client(uid, gid, remote.groups)

    def client_id(self, remote: Remote, life: bytes) -> bytes:
        """The id under which a client that calls itself `life` publishes here.

        All readers see it, and a publisher is answered its retries by it: no user can publish under that of another one.
        Those of the broker's own user stay as they are.
        """
        if remote.uid in (None, self._allowed_users.own):
            return life
        return blake2b(life, digest_size=len(life), salt=b"%d" % remote.uid).digest()

    def session_name(self, remote: Remote, name: str | None) -> str | None:
        """The name here of a session that a user calls `name`: each user has names of its own.

        In the journal and with peers, too: no user gets to another one's place. Those of the broker's own user stay as they
        are. Raises `ConnectionRefused`.
        """
        if name is None or remote.uid in (None, self._allowed_users.own):
            return name
        own = f"{remote.uid}:{name}"
        if len(own) > MAX_SESSION_NAME:
            raise ConnectionRefused(
                "name_too_long",
                f"{own!r}, as it is called here, has {len(own)} characters, allowed are {MAX_SESSION_NAME}",
            )
        return own
