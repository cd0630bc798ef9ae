"""The proof by which two brokers show each other that they know the cluster's secret, without sending the secret.

Each end draws a nonce. The broker that dialled proves first. A stranger that dials therefore gets no proof
against which to test guesses of the secret.
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
    """The content of a proof: the cluster, and of both brokers the name, the epoch and the nonce.

    `binding`: channel binding of the TLS connection, empty without TLS. A proof that was recorded on another
    connection, or that the other end made itself, does not match.
    """

    cluster: str
    consumer: str
    consumer_epoch: bytes
    consumer_nonce: bytes
    producer: str
    producer_epoch: Epoch
    producer_nonce: bytes
    binding: bytes = b""

    def proof(self, secret: bytes, prover: Prover) -> bytes:
        """HMAC-SHA-256 over all fields, each prefixed with its length."""
        fields = (
            _PURPOSE,
            prover.encode(),
            self.cluster.encode(),
            self.consumer.encode(),
            self.consumer_epoch,
            self.consumer_nonce,
            self.producer.encode(),
            self.producer_epoch,
            self.producer_nonce,
            self.binding,
        )
        message = b"".join(PREFIX.pack(len(field)) + field for field in fields)
        return hmac.digest(secret, message, "sha256")

    def is_proved(self, secret: bytes, prover: Prover, proof: bytes) -> bool:
        """Whether `proof` is right. Compares in constant time."""
        return hmac.compare_digest(self.proof(secret, prover), proof)
