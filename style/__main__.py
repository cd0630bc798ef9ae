"""`python -m style [PATH ...]`: one line for each finding. Exit code 1 if there are findings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from style.words import Finding, comments, first_words, phrases, sentences

ROOT: Final = Path(__file__).resolve().parents[1]
CHECKED: Final = (
    ":(exclude)tests/simulation/liars/[clp]*.py",
    ":(glob)tests/*.py",
    ":(glob)tests/unit/*.py",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "bench",
    "broker",
    "cli",
    "client",
    "deploy",
    "docs",
    "examples",
    "protocol",
    "style/__main__.py",
    "supply",
    "tests/faults",
    "tests/fuzz",
    "tests/integration",
    "tests/mutation",
    "tests/simulation",
    "tests/soak",
    "tests/unit/bench",
    "tests/unit/broker_shell",
    "tests/unit/cli",
    "tests/unit/client",
    "tests/unit/core",
    "tests/unit/deploy",
    "tests/unit/protocol",
    "tests/unit/style",
    "tests/unit/supply",
)
"""Files and folders whose words are checked, as paths of git.

Four modules of lies are left out: the names of lies and bytes are part of the digests by which two runs of a seed are compared.
"""


def findings(file: Path) -> Iterator[Finding]:
    text = file.read_text()
    if file.suffix == ".py":
        yield from first_words(text)
        yield from comments(text)
    else:
        yield from sentences(text)
    yield from phrases(text)


def files(paths: Sequence[str]) -> list[Path]:
    """Python files and documents below `paths` that git knows."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        ROOT / name for name in sorted(set(listed.splitlines())) if name.endswith((".py", ".md"))
    ]


def main(arguments: Sequence[str]) -> int:
    count = 0
    for file in files(arguments or CHECKED):
        for finding in sorted(findings(file), key=lambda each: each.line):
            count += 1
            print(f"{file.relative_to(ROOT)}:{finding.line}: {finding.text}")
    if count:
        print(f"{count} findings: CONTRIBUTING.md has the rules", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
