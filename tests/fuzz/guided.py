"""Coverage-guided fuzzing of one target by atheris, in a process of its own, which it ends.

    python -m tests.fuzz.guided TARGET PROGRAM [options and folders of libFuzzer]

PROGRAM: a file that starts this module again with the options behind it. libFuzzer uses that to compare inputs.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

# Import first: atheris only watches modules that are imported inside this block.
with atheris.instrument_imports(include=["pubsubd_protocol", "pubsubd_broker"]):
    from tests.fuzz.play import MEASURE_EVERY
    from tests.fuzz.target import TARGETS

from tests.fuzz.limits import TooLong, Watch, measured


def main(arguments: list[str]) -> None:
    target = TARGETS[arguments[1]]
    donors = target.donors()
    played = 0
    watch = Watch()

    def one(data: bytes) -> None:
        nonlocal played
        played += 1
        watch.begin()
        try:
            if played % MEASURE_EVERY:
                target.check(data)
            else:
                measured(target.check, data, target.memory_for(len(data)))
        except TooLong as error:
            # libFuzzer keeps an input only if it ends in an exception.
            raise AssertionError(str(error)) from error

    def change(data: bytes, longest: int, seed: int) -> bytes:
        if seed % 2:
            return bytes(atheris.Mutate(data, longest))
        chance = Random(seed)
        for _ in range(chance.choice((1, 1, 2, 4))):
            data = target.mutate(data, chance, donors)
        return data[:longest]

    options = [arguments[2], f"-max_len={target.longest}", *arguments[3:]]
    atheris.Setup(options, one, custom_mutator=change)
    with watch:
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
