"""docs/attacks.md is the registry, as it is."""

from __future__ import annotations

from pathlib import Path

from carom.benchmarks.docs.attacks import document, lines_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "attacks.md"


def test_the_table_is_the_registry():
    assert DOCUMENT.read_text(encoding="utf-8").rstrip("\n") == document()


def test_lines_are_those_of_statements():
    def build(steps: int = 3) -> int:
        """Not a line."""

        doubled = (
            2 * steps
        )  # fmt: skip
        return doubled

    assert lines_of(build) == 4
