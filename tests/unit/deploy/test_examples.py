"""The image and the examples of `deploy/` leave a broker no more than it needs, and name settings that there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from supply.build_hook import PURE
from tests.integration.cage import UID

from pubsubd_broker.settings.table import SETTINGS
from pubsubd_cli import exit_codes

ROOT: Final = Path(__file__).parents[3]
DEPLOY: Final = ROOT / "deploy"
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
UNIT: Final = (DEPLOY / "pubsubd.service").read_text()
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CLUSTER: Final[dict[str, dict[str, Any]]] = {
    each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
}
POD: Final[dict[str, Any]] = CLUSTER["StatefulSet"]["spec"]["template"]["spec"]
CONTAINERS: Final = {each["name"]: each for each in [*POD["initContainers"], *POD["containers"]]}
BROKER: Final = CONTAINERS["pubsubd"]
PAGES: Final = sorted([*DEPLOY.iterdir(), ROOT / "Dockerfile"])

VARIABLES: Final = {
    name for each in SETTINGS for name in (each.variable, each.switch_off and each.off_variable)
}
RUN: Final = "/run/pubsubd"
JOURNAL: Final = "/var/lib/pubsubd"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_is_one_of_the_broker_or_the_build(page: Path) -> None:
    named = set(re.findall(r"PUBSUBD_[A-Z_]*[A-Z]", page.read_text()))
    assert named <= VARIABLES | {PURE}


def test_every_key_of_the_settings_file_is_a_setting() -> None:
    text = (DEPLOY / "pubsubd.toml").read_text()
    names = {each.name for each in SETTINGS}
    assert tomllib.loads(text).keys() <= names
    commented = re.findall(r"^# ([a-z-]+) = (.*)$", text, re.MULTILINE)
    assert {name for name, _ in commented} <= names
    assert tomllib.loads("\n".join(f"{name} = {value}" for name, value in commented))


@pytest.mark.parametrize("where", ["compose", "kubernetes", "settings file"])
def test_a_broker_takes_the_settings_of_the_example(where: str) -> None:
    file = [] if where != "settings file" else ["--config", str(DEPLOY / "pubsubd.toml")]
    given = {"compose": settings_of_compose(), "kubernetes": settings_of_the_pod()}.get(where, {})
    shown = show(given, *file)
    assert shown.returncode == 0, shown.stderr


def test_an_example_without_its_secret_would_be_refused() -> None:
    given = settings_of_the_pod()
    del given["PUBSUBD_CLUSTER_SECRET_FILE"]
    shown = show(given)
    assert shown.returncode == exit_codes.USAGE
    assert "any machine can be one" in shown.stderr


def show(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """`pubsubd config show`, with these variables and no others. The files that they name are on other machines."""
    return subprocess.run(
        [sys.executable, "-m", "pubsubd_cli", "config", "show", *words],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings_of_compose() -> dict[str, str]:
    settings: dict[str, str] = COMPOSE["services"]["pubsubd"]["environment"]
    return settings


def settings_of_the_pod() -> dict[str, str]:
    """A value that Kubernetes finds out is `app-0`."""
    return {each["name"]: each.get("value", "app-0") for each in BROKER["env"]}


# The image


def stage(number: int) -> str:
    return re.split(r"^FROM .*$", DOCKERFILE, flags=re.MULTILINE)[number]


def variables_of_the_image() -> dict[str, str]:
    return dict(re.findall(r"\b(PUBSUBD_[A-Z_]+)=(\S+)", stage(2)))


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == [f"{UID}:{UID}"]


def test_the_image_lets_nobody_in_from_outside_by_itself() -> None:
    assert variables_of_the_image() == {"PUBSUBD_SOCKET": f"{RUN}/pubsubd.sock"}


def test_what_runs_has_nothing_to_install_with() -> None:
    build, run = stage(1), stage(2)
    assert "python -m venv --without-pip /opt/pubsubd" in build
    assert "pip install" not in run
    (copied,) = re.findall(r"^COPY (.*)$", run, re.MULTILINE)
    assert copied == "--from=build /opt/pubsubd /opt/pubsubd"
    assert re.search(r"rm -rf .*/bin/pip\* .*/site-packages/pip\* .*/ensurepip", run)


def test_what_the_build_copies_is_what_it_is_given() -> None:
    given = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        name
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for name in line.split()
    ]
    assert sorted(copied) == sorted(given) != []
    assert all((ROOT / name).exists() for name in copied)


# Compose


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_compose_takes_everything_away_from_a_container(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    user, group = service["user"].split(":")
    assert user != "0"
    assert group == str(UID)


def test_composes_broker_takes_only_nodes_with_the_secret() -> None:
    broker = COMPOSE["services"]["pubsubd"]
    settings = settings_of_compose()
    assert settings["PUBSUBD_LISTEN"] == "0.0.0.0:7420"
    assert broker["secrets"] == ["cluster-secret"]
    assert settings["PUBSUBD_CLUSTER_SECRET_FILE"] == "/run/secrets/cluster-secret"
    assert "PUBSUBD_INSECURE" not in settings
    assert {"mem_limit", "pids_limit"} <= broker.keys()
    assert broker["volumes"] == [f"run:{RUN}", f"journal:{JOURNAL}"]


# Kubernetes


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_kubernetes_takes_everything_away_from_a_container(name: str) -> None:
    context = CONTAINERS[name]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINERS[name]["resources"].keys() == {"requests", "limits"}


def test_the_pod_has_a_user_of_its_own_and_no_account() -> None:
    context = POD["securityContext"]
    assert {context[each] for each in ("runAsUser", "runAsGroup", "fsGroup")} == {UID}
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert not POD.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_the_probes_ask_what_the_broker_answers() -> None:
    paths = {
        probe: BROKER[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    ports = {each["name"]: each["containerPort"] for each in BROKER["ports"]}
    assert {BROKER[probe]["httpGet"]["port"] for probe in paths} == {"pubsubd-http"}
    assert settings_of_the_pod()["PUBSUBD_HTTP"] == f"0.0.0.0:{ports['pubsubd-http']}"
    assert settings_of_the_pod()["PUBSUBD_LISTEN"] == f"0.0.0.0:{ports['pubsubd']}"


def test_nodes_find_each_other_before_they_are_ready() -> None:
    replicas = CLUSTER["StatefulSet"]["spec"]["replicas"]
    assert CLUSTER["Service"]["spec"]["publishNotReadyAddresses"] is True
    assert CLUSTER["StatefulSet"]["spec"]["podManagementPolicy"] == "Parallel"
    peers = settings_of_the_pod()["PUBSUBD_PEER"].split(",")
    assert peers == [f"app-{number}.app:7420" for number in range(replicas)]


def test_the_application_shares_the_sockets_folder_and_nothing_else() -> None:
    application = CONTAINERS["application"]
    assert [each["mountPath"] for each in application["volumeMounts"]] == [RUN]
    (folder,) = [each["emptyDir"] for each in POD["volumes"] if each["name"] == "run"]
    # In memory it is sticky; on disk it is not, and the broker refuses it.
    assert folder["medium"] == "Memory"
    assert application["securityContext"]["runAsUser"] not in (0, UID)
    (socket,) = [each["value"] for each in application["env"]]
    assert socket == variables_of_the_image()["PUBSUBD_SOCKET"]


def test_the_secret_is_for_root_and_the_brokers_group() -> None:
    (secret,) = [each["secret"] for each in POD["volumes"] if "secret" in each]
    assert secret["defaultMode"] == 0o440
    mounts = {each["name"]: each for each in BROKER["volumeMounts"]}
    mount = mounts["cluster-secret"]
    assert mount["readOnly"] is True
    assert settings_of_the_pod()["PUBSUBD_CLUSTER_SECRET_FILE"] == f"{mount['mountPath']}/secret"
    assert not list(secrets_in(DEPLOY))


def secrets_in(folder: Path) -> Iterator[Path]:
    """Files that bring a secret along, which an example must not."""
    for path in folder.glob("*.yaml"):
        if re.search(r"^kind: Secret$|stringData:", path.read_text(), re.MULTILINE):
            yield path


# systemd


@pytest.mark.parametrize(
    "line",
    [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectSystem=strict",
        "PrivateDevices=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "User=pubsubd",
    ],
)
def test_the_unit_takes_away_what_a_broker_does_not_need(line: str) -> None:
    assert line in UNIT.splitlines()


def test_the_unit_keeps_the_users_that_a_broker_tells_apart() -> None:
    assert not re.search("^PrivateUsers=", UNIT, re.MULTILINE)


def test_the_unit_lets_a_broker_read_the_name_of_the_boot() -> None:
    """Hidden, every kill would be an alarm for all readers. ProtectKernelTunables= makes it read-only, no more."""
    assert not re.search("^ProcSubset=(?!all$)", UNIT, re.MULTILINE)
    hidden = [*re.findall("^(?:InaccessiblePaths|TemporaryFileSystem)=(.*)$", UNIT, re.MULTILINE)]
    assert not any("/proc" in paths for paths in hidden)
