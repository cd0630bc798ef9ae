"""Hook of the build: compiles the modules that pyproject.toml lists, and says what it did.

It compiles where there is a C compiler. With `PUBSUBD_PURE=1` it never does, with `PUBSUBD_PURE=0` it fails where nothing
can be compiled. An editable install is never compiled: it is there to be changed.

It imports nothing of pubsubd, and needs setuptools and mypy only where it compiles.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PURE: Final = "PUBSUBD_PURE"
"""Name of the environment variable that decides."""


class CannotCompile(Exception):
    """This machine does not compile. The text says why."""


class CompilingHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the compiled modules to the wheel, beside their sources."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """The packages that a compiling build needs besides the backend: the group `compile` of pyproject.toml."""
        if os.environ.get(PURE) == "1":
            return []
        try:
            check_compiler()
        except CannotCompile:
            return []
        return list(self.metadata.config["dependency-groups"]["compile"])

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is written. `version`: `standard`, or `editable`."""
        if version == "editable" or self.target_name != "wheel":
            return
        wish = os.environ.get(PURE)
        if wish not in (None, "0", "1"):
            raise ValueError(f"{PURE}={wish}: 0 compiles, 1 does not")
        if wish == "1":
            self.app.display_info(f"pubsubd: not compiled: {PURE}=1")
            return
        try:
            self._compile(build_data)
        except CannotCompile as error:
            if wish == "0":
                raise
            self.app.display_warning(f"pubsubd: not compiled: {error}")

    def _compile(self, build_data: dict[str, Any]) -> None:
        # Kept until the wheel is written; removed with the hook, also after a failure.
        self._folder = tempfile.TemporaryDirectory(prefix="pubsubd-build-")
        made = compiled(
            Path(self.root),
            self.build_config.packages,
            self.config["modules"],
            self.config["except"],
            Path(self._folder.name),
        )
        build_data["force_include"].update(made)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        self.app.display_info(f"pubsubd: {len(made)} files compiled")


def compiled(
    root: Path,
    packages: Sequence[str],
    modules: Iterable[str],
    left_out: Iterable[str],
    folder: Path,
) -> dict[str, str]:
    """The compiled files, each with its path in the wheel. They are made in `folder`.

    `packages`: folders below `root`. `modules`: globs, as a path in the wheel. `left_out`: the same, of modules that stay
    as they are. Raises `CannotCompile`.
    """
    _check_machine()
    for package in packages:
        shutil.copytree(
            root / package,
            folder / Path(package).name,
            ignore=shutil.ignore_patterns("__pycache__", "*.so"),
        )
    with _inside(folder):
        _compile(sorted(_matches(modules) - _matches(left_out)))
        # Not `**`: what the compiler was busy with lies here, too.
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        names = [Path(package).name for package in packages]
        made = _matches([f"*{suffix}", *(f"{name}/**/*{suffix}" for name in names)])
        return {str(folder / each): each for each in made}


def _matches(globs: Iterable[str]) -> set[str]:
    return {str(each) for glob in globs for each in Path().glob(glob)}


def check_compiler() -> None:
    """Raises `CannotCompile` where this Python has no C compiler, or lacks its own headers."""
    if sys.implementation.name != "cpython":
        raise CannotCompile(f"mypyc knows CPython only, this is {sys.implementation.name}")
    compiler = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler.split()[0]) is None:
        raise CannotCompile(f"a C compiler is missing: {compiler} is not found")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise CannotCompile(f"Python's headers are not installed: {header} is missing")


def _check_machine() -> None:
    check_compiler()
    try:
        import mypyc.build
        import setuptools
    except ImportError as error:
        raise CannotCompile(f"{error.name} is not installed") from error
    del mypyc, setuptools


def _compile(sources: Sequence[str]) -> None:
    """Compile `sources` of the current folder in place."""
    from mypyc.build import mypycify
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext
    from setuptools.errors import CCompilerError, ExecError

    class Parallel(build_ext):  # type: ignore[misc]
        """Compiles the files of the extension side by side, as many as there are processors."""

        def build_extension(self, ext: Extension) -> None:
            def objects(source: str) -> list[str]:
                made: list[str] = self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=ext.include_dirs,
                    macros=ext.define_macros,
                    extra_postargs=ext.extra_compile_args,
                    depends=ext.depends,
                )
                return made

            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                done = [each for some in pool.map(objects, ext.sources) for each in some]
            ext.extra_objects = [*ext.extra_objects, *done]
            ext.sources = []
            super().build_extension(ext)

    options = ["--config-file=", "--ignore-missing-imports", "--python-version"]
    options.append(".".join(str(each) for each in sys.version_info[:2]))
    try:
        extensions = mypycify([*options, *sources], multi_file=True, opt_level="2", debug_level="0")
    except SystemExit as error:
        raise CannotCompile("mypy refuses the sources; its messages are above") from error
    command = Parallel(Distribution({"name": "pubsubd", "ext_modules": extensions}))
    command.inplace = True
    command.ensure_finalized()
    try:
        command.run()
    except (CCompilerError, ExecError) as error:
        raise CannotCompile(f"the C compiler failed: {error}") from error


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
