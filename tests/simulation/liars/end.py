"""The end of a link between brokers that may lie to the other end."""

from __future__ import annotations

from tests.simulation.broker_socket import BrokerSocket
from tests.simulation.wires import Pipe


class LyingEnd:
    """The end that sends into `pipe`."""

    def __init__(self, pipe: Pipe) -> None:
        liar, receiver = pipe.sender, pipe.receiver
        assert isinstance(liar, BrokerSocket)
        assert isinstance(receiver, BrokerSocket)
        self.liar, self.receiver, self.pipe = liar, receiver, pipe
        self.node, self.other = liar.broker.name, receiver.broker.name

    @property
    def believed(self) -> bool:
        """Whether all honest frames are on their way, and the receiver still listens."""
        return self.liar.may_lie and not (self.receiver.deaf or self.receiver.connection.closing)
