"""The bill of materials of a wheel, CycloneDX 1.6 JSON: `python -m supply.sbom LOCK WHEEL FILE`

It lists the packages that an install of the wheel brings, on this system and this Python. Versions and files come
from the lock. Licences and dependencies come from the packages' own metadata, as installed here. Refused where the
two differ. The time is that of `SOURCE_DATE_EPOCH`, if it is set. All else is the same in every run.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply.locked import RUN, Lock, Locked

PROJECT: Final = "pubsubd"
_CLASSIFIER: Final = "License :: OSI Approved :: "
_SPACE: Final = uuid.UUID("4328172f-3e1b-48b3-8964-2f2b9f2b41fd")
"""The name space of our serial numbers; drawn once."""


class Mismatch(ValueError):
    """The installed packages are not the locked ones."""


def bill(locked: Iterable[Locked], wheel: bytes, at: datetime) -> Bom:
    """The project, each package of the lock that is wanted here, and their dependencies."""
    project = _component(PROJECT, ComponentType.APPLICATION, [hashlib.sha256(wheel).hexdigest()])
    packages = {each.name: _library(each) for each in locked if is_wanted_here(each)}
    bom = Bom(
        components=packages.values(),
        metadata=BomMetaData(component=project, timestamp=at),
        serial_number=_serial([project, *packages.values()]),
    )
    for name, component in [(PROJECT, project), *packages.items()]:
        needed = _needs(name)
        if not packages.keys() >= set(needed):
            raise Mismatch(f"{name} needs {', '.join(needed)}; not all of that is locked")
        bom.register_dependency(component, [packages[each] for each in needed])
    return bom


def text_of(bom: Bom) -> str:
    """The JSON text, validated against the schema of CycloneDX. Raises `ValueError`."""
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    # Imported late: it compiles 38 grammars, which took each worker of the tests longer than to collect them.
    from cyclonedx.validation.json import JsonStrictValidator

    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        raise ValueError(f"not CycloneDX 1.6: {wrong.data}")
    return text + "\n"


def is_wanted_here(locked: Locked) -> bool:
    """Whether this interpreter, on this system, installs the package."""
    return locked.marker is None or Marker(locked.marker).evaluate()


def _library(locked: Locked) -> Component:
    installed = metadata.version(locked.name)
    if installed != locked.version:
        raise Mismatch(f"{locked.name} {installed} is installed, {locked.version} is locked")
    return _component(locked.name, ComponentType.LIBRARY, locked.hashes)


def _component(name: str, kind: ComponentType, hashes: Iterable[str]) -> Component:
    """`hashes`: of every file from which this version may be installed."""
    version = metadata.version(name)
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        type=kind,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=list(_licences(name)),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in hashes],
    )


def _licences(name: str) -> Iterable[License]:
    """The licences as the package names them: an SPDX expression, else the classifiers, else its own words."""
    said = metadata.metadata(name)
    words = next((said[key] for key in ("License-Expression", "License") if key in said), "")
    licence = LicenseFactory().make_from_string(words) if words else None
    classifiers = [
        each.removeprefix(_CLASSIFIER)
        for each in said.get_all("Classifier") or []
        if each.startswith(_CLASSIFIER)
    ]
    if isinstance(licence, DisjunctiveLicense) and licence.id is None and classifiers:
        return [DisjunctiveLicense(name=each) for each in classifiers]
    if licence is None:
        raise Mismatch(f"{name} names no licence")
    return [licence]


def _needs(name: str) -> list[str]:
    """The packages that it requires here, without extras."""
    requirements = [Requirement(each) for each in metadata.requires(name) or []]
    return [
        canonicalize_name(each.name)
        for each in requirements
        if each.marker is None or each.marker.evaluate({"extra": ""})
    ]


def _serial(components: Sequence[Component]) -> uuid.UUID:
    """A serial number that depends on the components alone."""
    told = [f"{each.purl} {[one.content for one in each.hashes]}" for each in components]
    return uuid.uuid5(_SPACE, "\n".join(told))


def main(lock: str, wheel: str, file: str) -> None:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    at = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    bom = bill(Lock(Path(lock)).of(RUN), Path(wheel).read_bytes(), at)
    Path(file).write_text(text_of(bom))
    print(f"{file}: {PROJECT} and {len(bom.components)} packages")


if __name__ == "__main__":
    main(*sys.argv[1:])
