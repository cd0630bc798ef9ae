"""Changes of scripts for `handshake`: the frames, their places, their times and their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from random import Random

from tests.fuzz.mutations.frames import changed_stream
from tests.fuzz.mutations.noise import noisy
from tests.fuzz.scripts import Flag, Op, Step, build, parse


def changed_script(script: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    """A changed script. `donors`: frames."""
    if chance.random() < 0.05:
        return noisy(script, chance)
    flags, steps = parse(script)
    if not steps:
        return build(flags, [Step(Op.CLIENT), Step(Op.SEND, chance.choice(donors))])
    at = chance.randrange(len(steps))
    match chance.randrange(14):
        case 0:
            flags = Flag(flags ^ chance.choice(list(Flag)))
        case 1:
            del steps[at]
        case 2:
            steps.insert(at, steps[chance.randrange(len(steps))])
        case 3:
            steps.insert(at, Step(Op.WAIT, bytes((chance.randrange(8),))))
        case 4:
            op = chance.choice((Op.DEAF, Op.HEARS, Op.LEAVE, Op.CLIENT, Op.PEER))
            steps.insert(at, Step(op, b"", chance.randrange(6)))
        case 5:
            steps[at] = dataclasses.replace(steps[at], wire=chance.randrange(6))
        case 6:
            steps[at] = dataclasses.replace(steps[at], op=chance.choice((Op.SEND, Op.DRIBBLE)))
        case 7:
            steps.insert(at + 1, Step(Op.SEND, chance.choice(donors), steps[at].wire))
        case _:
            spoken = [i for i, step in enumerate(steps) if step.op in (Op.SEND, Op.DRIBBLE)]
            if spoken:
                at = chance.choice(spoken)
                data = changed_stream(steps[at].data, chance, donors)
                steps[at] = dataclasses.replace(steps[at], data=data)
    return build(flags, steps)
