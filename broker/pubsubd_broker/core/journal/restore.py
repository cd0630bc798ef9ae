"""The beginning of a node's life with what an earlier life left."""

from __future__ import annotations

from pubsubd_broker.core.journal.parts import KeptStream, Parts
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.observe.notices import Notices


def restore(
    parts: Parts, recovered: Recovered, notices: Notices, now: Now, *, proved: bool
) -> None:
    """Gives new `parts` what was recovered.

    `proved`: whether `recovered` is proved to be the last state of the node's last life.
    """
    parts.stream.begin(recovered.lineage, recovered.first, recovered.losses, recovered.entries)
    _report_trimming(parts.stream, recovered, notices)
    state = recovered.state
    placed = zip(recovered.entries, recovered.sequences, strict=True)
    parts.answers.restore(state.publishers, placed)
    for name, consumer in state.consumers.items():
        parts.cursors.restore(name, consumer.cursor, consumer.named, now.mono_ns)
    # Another session may have taken a name since: to send that one away would be wrong.
    holders = state.holders if proved else {}
    for name, positions in state.sessions.items():
        parts.sessions.restore(name, positions, holders.get(name))


def _report_trimming(stream: KeptStream, recovered: Recovered, notices: Notices) -> None:
    """Reports messages that the ring cannot hold. A journal has a little more than the ring; a smaller ring drops some."""
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
