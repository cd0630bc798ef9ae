"""A place where this life's witness lies: the file there is watched, and made anew if it is lost or damaged.

The broker relies on its file between two starts of its process, and another program may write to it: a restore, a cleaner, `: >`.
A file that is not this life's any more proves nothing, and a store behind the end of a truncated mapping ends the process (SIGBUS).
So once a second each file is looked at, never through its mapping. One that is damaged gets no more stores from that moment on.
A new file is prepared, the event loop begins to store into it, and only then it gets its name: no count is ever older than
what was accepted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol, TypeVar

import structlog

from pubsubd_broker.core.journal.whole_end import Witness, checked
from pubsubd_broker.journal.life_file import LifeFile, empty_life, remove_life

T = TypeVar("T")

log = structlog.get_logger("pubsubd")

_RENEWED: Final = "a new file was made, with the count of accepted messages"


class Folder(Protocol):
    """An open folder that a place may be in."""

    path: str

    @property
    def descriptor(self) -> int: ...


class Run(Protocol):
    """Runs a blocking step in a thread; None without running it if the place may not be touched now."""

    def __call__(self, step: Callable[[], T], /) -> Awaitable[T | None]: ...


class Counter:
    """Counter of accepted messages, stored into every file that is in use."""

    __slots__ = ("_in_use", "_turn", "_words", "_written", "accepted")

    def __init__(self) -> None:
        self.accepted = 0
        self._in_use: dict[LifePlace, LifeFile] = {}
        self._words: tuple[memoryview, ...] = ()
        self._written: tuple[LifePlace, ...] = ()
        """Places whose file is not mapped."""
        self._turn = threading.Lock()

    def store(self, following: int) -> None:
        """On the event loop."""
        count = checked(following)
        for word in self._words:
            word[0] = count
        for place in self._written:
            place.write(count)
        # Last: a look takes it for the least that a file says.
        self.accepted = following

    def use(self, place: LifePlace, file: LifeFile | None) -> None:
        """Stores into `file` at this place from now on; None: into nothing there. In any thread."""
        with self._turn:
            if file is None:
                self._in_use.pop(place, None)
            else:
                self._in_use[place] = file
            files = self._in_use.items()
            self._words = tuple(each.word for _, each in files if each.word is not None)
            self._written = tuple(where for where, each in files if each.word is None)


class LifePlace:
    """Keeps the witness of this life at one place. Methods run in any one thread, but for those of the event loop."""

    def __init__(
        self,
        folder: Folder | None,
        name: str,
        witness: Witness,
        counter: Counter,
        unrecorded: Callable[[LifePlace, OSError], None],
        *,
        alone: bool = False,
    ) -> None:
        """`folder` None: `name` is a path. `unrecorded` says what a missing file means.

        `alone`: no other file will speak for this life. Where this one cannot be made, an empty one keeps its place: later lives
        then know that there was something that they cannot know.
        """
        self.path = name if folder is None else os.path.join(folder.path, name)
        self._folder = None if folder is None else folder.descriptor
        self._name = name
        self._witness = witness
        self._counter = counter
        self._say_unrecorded = unrecorded
        self._alone = alone
        self.marked = False
        """Whether an empty file stands there in the place of one that could not be made."""
        self._error: OSError | None = None
        self._file: LifeFile | None = None
        self._problem: str | None = None
        self._said: str | None = None
        self._retired: list[LifeFile] = []

    @property
    def in_memory(self) -> bool:
        """Whether there is a file, and no store into it ever waits for a disk."""
        return self._file is not None and self._file.in_memory

    @property
    def counts(self) -> bool:
        """Whether there is a file that says how far was accepted."""
        return self._file is not None and self._witness.counting

    def make(self) -> None:
        """The first file. Nothing has been accepted since the witness was made. See `settle`."""
        try:
            file = LifeFile(self._folder, self._name, self._witness)
            file.put_in_place()
        except OSError as error:
            self._error = error
        else:
            self._use(file)

    def settle(self) -> None:
        """This life has really begun. If it has no file here, what lies here must not speak for it, and that is told."""
        if self._error is not None:
            self._failed(self._error)

    def write(self, count: int) -> None:
        """On the event loop. For a file that is not mapped."""
        if self._file is None:
            return
        try:
            self._file.write(count)
        except OSError as error:
            # It was emptied.
            self.marked = True
            self._retire()
            self._say(error)

    # A look, in three steps: see `mend`.

    def renewed(self) -> LifeFile | None:
        """A file to go on with, if the one there is not this life's any more. It has no name yet."""
        counting = self._witness.counting
        if self._file is not None:
            self._problem = self._file.problem(self._counter.accepted if counting else None)
            if self._problem is None:
                return None
            # At once: a store into what was truncated would end the process.
            self._retire()
        witness = self._witness
        if counting:
            witness = replace(witness, accepted=self._counter.accepted)
        try:
            return LifeFile(self._folder, self._name, witness)
        except OSError as error:
            self._failed(error)
            return None

    def adopt(self, file: LifeFile | None) -> None:
        """On the event loop: all that was accepted is counted in `file` before it can be found."""
        for each in self._retired:
            each.close()
        self._retired.clear()
        if file is not None:
            self._use(file)
            self._counter.store(self._counter.accepted)

    def put_in_place(self) -> None:
        """The file that was adopted gets its name."""
        if self._file is None:
            return
        try:
            self._file.put_in_place()
        except OSError as error:
            self._retire()
            self._failed(error)
            return
        problem, self._problem, self._said = self._problem or "was missing", None, None
        log.warning(
            "place.lost",
            what="life",
            path=self.path,
            reason=f"{self.path} {problem}",
            done=_RENEWED,
        )

    def _use(self, file: LifeFile) -> None:
        self._file = file
        if self._witness.counting:
            self._counter.use(self, file)

    def _retire(self) -> None:
        """Ends storing into the file. The event loop closes it: it may be about to write."""
        if self._file is not None:
            self._counter.use(self, None)
            self._retired.append(self._file)
            self._file = None

    def _failed(self, error: OSError) -> None:
        self._error = None
        if self._alone:
            self.marked = empty_life(self._folder, self._name)
        else:
            remove_life(self._folder, self._name)
        self._say(error)

    def _say(self, error: OSError) -> None:
        """Each error is told once in a row: it is tried again every second."""
        said = str(error)
        if said != self._said:
            self._said = said
            self._say_unrecorded(self, error)


async def mend(place: LifePlace, run: Run) -> None:
    """Looks at the place, and makes its file anew if it was lost. On the event loop; `run` for what blocks."""
    renewed = await run(place.renewed)
    place.adopt(renewed)
    if renewed is not None:
        await run(place.put_in_place)
