"""How two brokers prove to each other that they know their cluster's secret, without ever sending it.

Each end draws a nonce. The one that dialled proves first, so that a stranger who connects is given nothing that
it could try guesses on.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Literal

from pubsubd_protocol.framing import PREFIX
from pubsubd_protocol.positions import Epoch

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = hashlib.sha256().digest_size

Prover = Literal["consumer", "producer"]

_PURPOSE: Final = b"pubsubd peer proof, version 1"


@dataclass(frozen=True, slots=True)
class Exchange:
    """All that a proof is about: who the two are, in which lives, in which cluster, and on which connection.

    `binding`: of the TLS channel under it, empty where there is none. A proof that was heard on another connection, or
    that the other end made itself, does not fit.
    """

    cluster: str
    consumer: str
    consumer_life: bytes
    consumer_nonce: bytes
    producer: str
    producer_life: Epoch
    producer_nonce: bytes
    binding: bytes = b""

    def proof(self, secret: bytes, prover: Prover) -> bytes:
        """HMAC-SHA-256 over all fields, each behind its length."""
        fields = (
            _PURPOSE,
            prover.encode(),
            self.cluster.encode(),
            self.consumer.encode(),
            self.consumer_life,
            self.consumer_nonce,
            self.producer.encode(),
            self.producer_life,
            self.producer_nonce,
            self.binding,
        )
        message = b"".join(PREFIX.pack(len(field)) + field for field in fields)
        return hmac.digest(secret, message, "sha256")

    def is_proved(self, secret: bytes, prover: Prover, proof: bytes) -> bool:
        """Takes the same time wherever the two differ."""
        return hmac.compare_digest(self.proof(secret, prover), proof)
