"""A broker runs with the rights of the image and the examples: a read-only root, no capability, a user of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.asynchronous import async_test
from tests.integration import cage
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.cage import UID, Cage
from tests.integration.steps import StartBroker, in_thread, payloads_to, publish, subscribed
from tests.integration.waiting import wait_until_async
from tests.other_users import acting_as

import pubsubd
from pubsubd_cli import exit_codes

WHY_NOT: Final = cage.missing() if sys.platform == "linux" else "only Linux has mount namespaces"
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

APPLICATION: Final = 10002
"""The examples' other user."""

SECRET: Final = "of no use outside of this test"

TRIES: Final = """
import os, sys
for folder in sys.argv[1:]:
    try:
        os.close(os.open(folder + "/written", os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        print(folder, error.strerror)
    else:
        print(folder, "written")
"""


class Caged:
    """A broker in a cage, with the two folders that it may write to, and a secret of its group, as the image gets it."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.run = run
        self.journal = folder / "journal"
        self.journal.mkdir()
        for each in (run, self.journal):
            os.chown(each, UID, UID)
        secret = folder / "secrets" / "secret"
        secret.parent.mkdir()
        secret.write_text(SECRET)
        os.chown(secret, 0, UID)
        secret.chmod(0o440)
        self.cage = Cage(folder, [self.run, self.journal], [secret.parent])
        self.broker = Broker(
            folder,
            command=[*self.cage.prefix, *PUBSUBD],
            socket=str(run / "s"),
            journal=self.journal,
            fsync="always",
            listen="0.0.0.0:0",
            cluster_secret_file=secret,
        )


@pytest.fixture
def caged(tmp_path: Path) -> Iterator[Caged]:
    # Not in `tmp_path`: a socket's path has to fit into 107 bytes, and pytest's folders are deep.
    with tempfile.TemporaryDirectory(prefix="psd-") as run:
        made = Caged(tmp_path, Path(run))
        try:
            yield made
        finally:
            sys.stderr.write(made.broker.tail() + "\n")
            made.broker.close()


def fields_of(pid: int) -> dict[str, list[str]]:
    """`/proc/PID/status`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def mounts_of(pid: int) -> dict[str, set[str]]:
    """The mounts that the process sees, with their options."""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {words[4]: set(words[5].split(",")) for words in lines}


@async_test
async def test_a_broker_runs_with_a_read_only_root_and_uid_10001(caged: Caged) -> None:
    broker = caged.broker
    await in_thread(broker.start)
    status = fields_of(broker.pid)
    assert status["Uid"] == status["Gid"] == [str(UID)] * 4
    assert status["Groups"] == []
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(status[name][0], 16) for name in sets} == dict.fromkeys(sets, 0)
    assert status["NoNewPrivs"] == ["1"]
    writable = {path for path, options in mounts_of(broker.pid).items() if "rw" in options}
    assert writable == {str(caged.run), str(caged.journal)}

    numbers = list(range(20))
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await publish(client, numbers)
        assert await payloads_to(reader, 19) == numbers
    assert await in_thread(broker.stop) == 0

    await in_thread(broker.start)
    async with subscribed(broker, start="earliest") as reader:
        assert await payloads_to(reader, 19) == numbers
    assert broker.ready()
    assert await in_thread(broker.stop) == 0


@async_test
async def test_an_application_reaches_it_in_a_kubernetes_folder(caged: Caged) -> None:
    """An `emptyDir` in memory, with an `fsGroup`: sticky, and root's.

    On disk it would not be sticky, and is refused.
    """
    os.chown(caged.run, 0, UID)
    caged.run.chmod(0o2777)
    caged.broker.options["socket_mode"] = "0660"
    caged.broker.start(wait=False)
    await wait_until_async(lambda: not caged.broker.alive, what="the refusal")
    assert caged.broker.exit_code == exit_codes.USAGE

    caged.run.chmod(0o3777)
    await in_thread(caged.broker.start)
    with acting_as(APPLICATION, UID):
        async with pubsubd.connect(caged.broker.socket) as client:
            assert (await client.publish("x", 1)).offset == 0
    with acting_as(APPLICATION), pytest.raises(pubsubd.BrokerUnavailable):
        async with pubsubd.connect(caged.broker.socket, publish_timeout_s=1) as client:
            await client.publish("x", 2)
    assert await in_thread(caged.broker.stop) == 0


def test_no_other_folder_of_the_image_can_be_written_to(caged: Caged) -> None:
    closed = ["", "/etc", "/usr", str(Path(pubsubd.__file__).parent), sys.prefix]
    tried = subprocess.run(
        [*caged.cage.prefix, sys.executable, "-c", TRIES, *closed, str(caged.run)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    denied = [f"{folder} Read-only file system" for folder in closed]
    assert tried.stdout.splitlines() == [*denied, f"{caged.run} written"]
    assert (caged.run / "written").stat().st_uid == UID
    assert not any((caged.cage.root).iterdir())


def test_a_unit_that_hides_the_boot_id_is_logged_at_the_start(start_broker: StartBroker) -> None:
    """Hides the boot id as ProcSubset=pid does."""
    hide = 'mount -t proc -o subset=pid none /proc && exec "$@"'
    private = ("unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh")
    broker = start_broker("a", command=(*private, *PUBSUBD))
    told = broker.wait_log("life.no_boot_id")
    assert told["path"] == "/proc/sys/kernel/random/boot_id"
    assert "ProcSubset=pid" in told["remedy"]
