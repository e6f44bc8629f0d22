"""What the README says is what was recorded, and what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from carom.benchmarks.docs.readme import RECORDED, table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_recorded_run() -> None:
    assert table(json.loads(RECORDED.read_text(encoding="utf-8"))) in README


def test_files_it_links_to_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_commands_it_names_exist() -> None:
    from carom.common.cli.main import cli

    for command in set(re.findall(r"(?:`|bin/)carom (\w+)", README)):
        assert command in cli.commands, command
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make (demo|test|check|benchmark)\b", README)):
        assert f"\n{target}:" in makefile
