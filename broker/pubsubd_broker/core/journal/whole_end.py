"""The proof that a recovered history ends where the accepted messages end.

Each life leaves a witness: a small file that says which life it was and how far it had accepted. The count is
rewritten in place for each accepted batch, so it outlives the process, though not always the machine. The next life
compares it with what it has recovered. `lost` is that comparison: 0, a number, or None where the proof is missing.

A witness lies in two places. The one in the journal's folder proves that the folder holds the newest history: it is
*bound*: it stands in the very file it was written to, so a copied folder proves nothing. The witness beside the
clients' socket names the last life that served there, with a journal or without, so that no life in between is missed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

import google_crc32c

from pubsubd_broker.core.journal.records import FORMAT
from pubsubd_protocol.positions import EPOCH_BYTES, MAX_OFFSET, NO_EPOCH, Epoch, Lineage

WITNESS_BYTES: Final = 4096
"""A page and a block. The file is written as a whole once, so a later store into it needs no room on the disk."""

COUNT_AT: Final = WITNESS_BYTES - 8
"""The place of the count of accepted messages, an aligned uint64."""

FIRST_WITNESSED_FORMAT: Final = 3
"""The first format whose versions wrote a witness. The only proof for earlier formats is the journal's own bytes."""

SEVERAL_EPOCHS: Final = Epoch(b"\xff" * EPOCH_BYTES)

_MAGIC: Final = b"pubsubd life\n"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<13sHI")
_BODY: Final = struct.Struct("<64s16s16s16s16sQQQq?")
_COUNT: Final = struct.Struct("=Q")
_UNKNOWN: Final = -1

CHECK_PRIME: Final = 2039
CHECK_SHIFT: Final = 53


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Tells a file from its copies: inode number and birth time. A birth time of 0: the system does not tell it."""

    inode: int
    born_ns: int


@dataclass(frozen=True, slots=True)
class Witness:
    """A life's record of itself. All but `accepted` is constant.

    `begin`: the offset at which its stream went on. `previous`: the epoch that ended there, and `lost` the number of
    messages lost at that end. `owed`: an earlier life that may have accepted messages which this life's history lacks,
    `NO_EPOCH` for none. `boot`: the machine's boot, empty if unknown. `file`: the file that the witness was written to.
    `accepted`: the offset after the last accepted message. `counting`: whether `accepted` is kept up to date. If not, it
    is as at the beginning, and the witness beside the socket has the count.
    """

    node: str
    epoch: Epoch
    boot: bytes
    begin: int
    previous: Epoch
    lost: int | None
    owed: Epoch
    file: FileIdentity
    accepted: int
    counting: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """The file of a witness. `witness`: None if the file is unreadable. `bound`: the witness was written to this very file."""

    witness: Witness | None
    bound: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Witnesses that a start finds. None: no file. `boot`: the present boot of the machine."""

    folder: Found | None = None
    beside: Found | None = None
    boot: bytes = b""

    def trusts(self, found: Found) -> bool:
        """Whether the count in `found` is the last one: the file is bound, and the machine has not gone down since."""
        witness = found.witness
        return (
            witness is not None
            and witness.counting
            and found.bound
            and self.boot == witness.boot != b""
        )

    @property
    def with_one_count(self) -> Evidence:
        """Gives a witness in the folder that does not count the count beside the socket, if both are of one life."""
        folder, beside = self.folder, self.beside
        if folder is None or beside is None or not self.trusts(beside):
            return self
        ours, other = folder.witness, beside.witness
        if ours is None or other is None or ours.counting or ours.epoch != other.epoch:
            return self
        if not folder.bound:
            # A copy proves nothing. The witness beside the socket is heard alone.
            return self
        counted = replace(ours, accepted=other.accepted, counting=True)
        return replace(self, folder=replace(folder, witness=counted))


@dataclass(frozen=True, slots=True)
class RecoveredEnd:
    """The end of a recovered history.

    `promised`: the journal's own bytes prove that no message is missing. The life ended cleanly, or wrote each message
    before it accepted it.
    """

    node: str
    epoch: Epoch
    lineage: Lineage
    next: int
    promised: bool = False
    format: int = FORMAT

    @property
    def epochs(self) -> frozenset[Epoch]:
        return frozenset({self.epoch, *(epoch for epoch, _ in self.lineage)})


def is_last(epoch: Epoch, evidence: Evidence) -> bool:
    """Whether no life came after the one of `epoch`. Both witnesses must say so: a folder that was put back names its own life."""
    return all(
        found is not None
        and found.bound
        and found.witness is not None
        and found.witness.epoch == epoch
        for found in (evidence.folder, evidence.beside)
    )


@dataclass(frozen=True, slots=True)
class EndProof:
    """`lost`: the number of missing accepted messages; None if unknown. `because`: the evidence, for people."""

    lost: int | None
    because: str

    @property
    def told(self) -> dict[str, str]:
        """Fields of the log line: the evidence, and the consequence if messages are missing."""
        said = {"because": self.because}
        if self.lost != 0:
            said["consequence"] = (
                "readers are told state_lost at that offset, and reload their state"
            )
        return said


def lost_at(end: RecoveredEnd, evidence: Evidence) -> int | None:
    """The number of accepted messages missing behind `end`; None if unknown. Pure."""
    return prove(end, evidence).lost


def prove(end: RecoveredEnd, evidence: Evidence) -> EndProof:
    """Counts the accepted messages that are missing behind `end`, and names the evidence. Pure.

    Both witnesses are heard. A witness that makes the number unknowable outweighs any proof. Of two numbers the larger
    one counts.
    """
    evidence = evidence.with_one_count
    proofs: list[EndProof] = []
    doubts: list[EndProof] = []
    for found, in_folder in ((evidence.folder, True), (evidence.beside, False)):
        if found is None:
            continue
        heard, proof = _hear(end, found, evidence, in_folder=in_folder)
        if heard and proof.lost is None:
            return proof
        (doubts if proof.lost is None else proofs).append(proof)
    if proofs:
        return max(proofs, key=lambda proof: proof.lost or 0)
    if end.promised and end.format < FIRST_WITNESSED_FORMAT:
        return EndProof(0, "a version that wrote no witness ended the journal whole")
    return doubts[0] if doubts else EndProof(None, "no witness of its last life is left")


def _hear(
    end: RecoveredEnd, found: Found, evidence: Evidence, *, in_folder: bool
) -> tuple[bool, EndProof]:
    """Whether this witness has something to say about `end`, and how many are lost by that."""
    witness = found.witness
    place = "in the folder" if in_folder else "beside the socket"
    if witness is None:
        return True, EndProof(None, f"the witness {place} is not readable")
    if witness.node != end.node:
        # A broker with a wrong --node served at this socket. Its witness may have replaced the one that matters.
        harmless = witness.owed in {NO_EPOCH, *end.epochs}
        return not harmless, EndProof(None, f"node {witness.node!r} was served since, {place}")
    trusted = evidence.trusts(found)
    if witness.epoch == end.epoch:
        return _hear_its_own(end, found, place, trusted=trusted, in_folder=in_folder)
    if witness.previous == end.epoch and trusted and witness.begin >= end.next:
        # That life had judged the same end. The messages that it accepted are missing, too.
        since = f"the witness {place} counted {witness.accepted} accepted in the life after it"
        if witness.lost is None:
            return True, EndProof(None, "its next life could not know what was lost before it")
        return True, EndProof(witness.accepted - end.next + witness.lost, since)
    if witness.epoch in end.epochs:
        return False, EndProof(None, f"the witness {place} is of an earlier life")
    # Another life of this node served since. Its readers and publishers know messages that this history lacks.
    idle = trusted and witness.accepted == witness.begin
    harmless = idle and witness.owed in {NO_EPOCH, *end.epochs}
    return not harmless, EndProof(None, f"life {witness.epoch.hex()} was served since, {place}")


def _hear_its_own(
    end: RecoveredEnd, found: Found, place: str, *, trusted: bool, in_folder: bool
) -> tuple[bool, EndProof]:
    """The same for a witness of the life that ended at `end`."""
    witness = found.witness
    assert witness is not None
    if trusted:
        counted = f"the witness {place} counted {witness.accepted} accepted"
        return True, EndProof(max(0, witness.accepted - end.next), counted)
    doubt = (
        "the machine was restarted since" if found.bound else "the folder was copied or put back"
    )
    if witness.accepted > end.next:
        return True, EndProof(None, doubt)
    if found.bound and in_folder and end.promised:
        return True, EndProof(0, "it ended cleanly, or wrote before it accepted")
    return False, EndProof(None, doubt)


def owed(node: str, history: frozenset[Epoch], evidence: Evidence) -> Epoch:
    """The life that a new witness has to name as owed, because it replaces the witness of that life. Pure.

    `history`: the lives that the new life continues. A life tells its readers of all losses before it. An earlier life is
    thus settled in every history that holds a later one.
    """
    found = evidence.beside
    if found is None:
        return NO_EPOCH
    if found.witness is None:
        return SEVERAL_EPOCHS
    witness = found.witness
    if witness.epoch in history:
        return NO_EPOCH
    idle = evidence.trusts(found) and witness.accepted == witness.begin
    tells = witness.node == node and witness.previous != NO_EPOCH and witness.owed != NO_EPOCH
    if tells or not idle:
        return witness.epoch
    return NO_EPOCH if witness.owed in history else witness.owed


def begun(
    node: str, epoch: Epoch, end: RecoveredEnd | None, missing: int | None, evidence: Evidence
) -> Witness:
    """The witness of a life that goes on behind `end` and has accepted no message yet. `file` is set later."""
    begin, previous = (0, NO_EPOCH) if end is None else (end.next, end.epoch)
    history = frozenset({epoch}) if end is None else end.epochs
    not_ours = owed(node, history, evidence)
    nowhere = FileIdentity(0, 0)
    return Witness(
        node, epoch, evidence.boot, begin, previous, missing, not_ours, nowhere, accepted=begin
    )


def encode_witness(witness: Witness) -> bytes:
    """The bytes of the whole file."""
    body = _BODY.pack(
        witness.node.encode(),
        witness.epoch,
        witness.boot,
        witness.previous,
        witness.owed,
        witness.file.inode,
        witness.file.born_ns,
        witness.begin,
        _UNKNOWN if witness.lost is None else witness.lost,
        witness.counting,
    )
    head = _HEAD.pack(_MAGIC, _VERSION, google_crc32c.value(body))
    return (head + body).ljust(COUNT_AT, b"\0") + _COUNT.pack(checked(witness.accepted))


def decode_witness(data: bytes) -> Witness | None:
    """The witness in these bytes. None if they are damaged, or written in another version's form."""
    if len(data) != WITNESS_BYTES:
        return None
    magic, version, crc = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + _BODY.size]
    if (magic, version, crc) != (_MAGIC, _VERSION, google_crc32c.value(body)):
        return None
    *names, inode, born_ns, begin, missing, counting = _BODY.unpack(body)
    name, epoch, boot, previous, not_ours = names
    (count,) = _COUNT.unpack_from(data, COUNT_AT)
    accepted = count & MAX_OFFSET
    if checked(accepted) != count or accepted < begin:
        return None
    return Witness(
        name.rstrip(b"\0").decode(),
        Epoch(epoch),
        boot.rstrip(b"\0") and boot,
        begin,
        Epoch(previous),
        None if missing == _UNKNOWN else missing,
        Epoch(not_ours),
        FileIdentity(inode, born_ns),
        accepted,
        counting,
    )


def checked(accepted: int) -> int:
    """An offset with its checksum in the 11 bits that no offset uses, to store both at once. Never 0."""
    return accepted | (accepted % CHECK_PRIME + 1) << CHECK_SHIFT
