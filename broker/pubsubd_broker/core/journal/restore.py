"""Begins a node's life with the state that an earlier life left."""

from __future__ import annotations

from pubsubd_broker.core.journal.life import Life
from pubsubd_broker.core.journal.parts import KeptStream, Parts
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.observe.notices import Notices
from pubsubd_protocol.positions import StreamView


def restore(parts: Parts, recovered: Recovered, life: Life, notices: Notices, now: Now) -> None:
    """Gives the recovered state to new `parts`. `life`: the new life."""
    parts.stream.begin(recovered.lineage, recovered.first, recovered.losses, recovered.entries)
    _report_trimming(parts.stream, recovered, notices)
    state = recovered.state
    placed = zip(recovered.entries, recovered.sequences, strict=True)
    parts.answers.restore(state.publishers, placed, partial=recovered.partial_answers)
    for name, consumer in state.consumers.items():
        parts.cursors.restore(name, consumer.cursor, consumer.named, now.mono_ns)
    # Another session may have taken a name since, and must not be sent away.
    holders = state.holders if life.continues(recovered) else {}
    for name, positions in state.sessions.items():
        parts.sessions.restore(name, positions, holders.get(name))


def report_recovery(life: Life, view: StreamView, notices: Notices) -> None:
    """Reports the outcome of the recovery from peers. `view`: of the stream as it goes on."""
    recovered, proof = life.recovered, life.proof
    say = notices.info if proof is None or proof.lost == 0 else notices.warning
    say(
        "stream.recalled",
        epoch=recovered.state.epoch.hex() if recovered is not None else None,
        lost=recovered.lost if recovered is not None else None,
        oldest=view.oldest,
        next=view.next,
        **(proof.told if proof is not None else {}),
    )


def _report_trimming(stream: KeptStream, recovered: Recovered, notices: Notices) -> None:
    """Reports messages that the ring cannot hold. A journal holds a little more than its ring; a smaller ring drops some."""
    log = stream.log
    found = sum(entry.count for entry in recovered.entries)
    if log.messages == found:
        return
    say = notices.info if log.messages else notices.warning
    say(
        "ring.trimmed",
        found=found,
        held=log.messages,
        oldest=log.view.oldest,
        next=log.view.next,
        ring_messages=log.max_messages,
        ring_bytes=log.max_bytes,
    )
