"""Changes of a journal's folder: records, their bodies, segments, and the places where they end."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.fuzz.folders import SEALED, build, parse, records, segment_of
from tests.fuzz.mutations.frames import changed_frame
from tests.fuzz.mutations.noise import noisy
from tests.fuzz.mutations.rearranged import rearrange
from tests.fuzz.mutations.trees import changed, pack, unpack

from pubsubd_broker.core.journal.records import FIRST_BYTES, Kind, first_line
from pubsubd_broker.core.journal.recovery import SEQUENCE


def changed_folder(folder: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    """A changed folder. `donors`: segments."""
    flags, segments = parse(folder)
    if not segments or chance.random() < 0.03:
        return noisy(folder, chance)
    number = chance.choice(list(segments))
    match chance.randrange(14):
        case 0:
            flags ^= SEALED
        case 1:
            del segments[number]
        case 2:
            segments[chance.randrange(8)] = segments[number]
        case 3:
            segments[number] = segments[number][: chance.randrange(len(segments[number]) + 1)]
        case 4:
            segments[number] += bytes(chance.choice((1, 9, 100)))
        case 5:
            segments[number] = noisy(segments[number], chance)
        case 6:
            line = first_line(chance.choice((0, 1, 2, 999_999_999)))
            segments[number] = line + segments[number][len(FIRST_BYTES) :]
        case 7:
            segments[chance.randrange(8)] = chance.choice(donors)
        case _:
            segments[number] = _changed_segment(segments[number], chance, donors)
    return build(flags, segments)


def _changed_segment(segment: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    found = records(segment)
    if not found:
        return noisy(segment, chance)
    at = chance.randrange(len(found))
    match chance.randrange(8):
        case 0 | 1 | 2 as how:
            rearrange(found, at, how, chance)
        case 3:
            found.insert(at, chance.choice(records(chance.choice(donors)) or found))
        case 4:
            found[at] = chance.choice((*Kind, 0, 5, 255)), found[at][1]
        case _:
            found[at] = found[at][0], _changed_body(*found[at], chance)
    return segment_of(found, segment[: len(FIRST_BYTES)])


def _changed_body(kind: int, body: bytes, chance: Random) -> bytes:
    if kind == Kind.ENTRY:
        if chance.random() < 0.2:
            return noisy(body[: SEQUENCE.size], chance) + body[SEQUENCE.size :]
        return body[: SEQUENCE.size] + changed_frame(body[SEQUENCE.size :], chance)
    try:
        return pack(changed(unpack(body), chance, 1))
    except (ValueError, TypeError):
        return noisy(body, chance)
