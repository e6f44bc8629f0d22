"""The site builds without a warning, has a page for every attack, and asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import carom
from carom.benchmarks.docs import attacks, results

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?!a\b)(\w+)\b[^>]*?\b(?:src|href|srcset|data)\s*=\s*[\"']?\s*((?:https?:)?//[^\s\"'>]+)", re.I)
OF_STYLES = re.compile(r"@import[^;]*|url\(\s*[\"']?\s*(?:https?:)?//[^)]*", re.I)
OF_SCRIPTS = re.compile(r"[\"'`](?:https?:)?//\w[^\"'`]*")
COMMENTS = re.compile(r"/\*.*?\*/|^\s*//[^\n]*", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra carom[docs] is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra carom[docs] is not installed")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("site")
    (tree / "carom").mkdir()
    for folder in ("vision", "audio", "text", "common", "benchmarks"):
        (tree / "carom" / folder).symlink_to(ROOT / folder)
    (tree / "carom" / "__init__.py").symlink_to(ROOT / "common" / "_root" / "__init__.py")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"CAROM_TREE": str(tree)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_it_asks_nothing_of_the_network(site: Path) -> None:
    asked = []
    for path in site.rglob("*"):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if path.suffix == ".html":
            asked += [(path.name, found) for found in LOADED.findall(text)]
        elif path.suffix == ".css":
            asked += [(path.name, found) for found in OF_STYLES.findall(text)]
        elif path.suffix == ".js":
            asked += [(path.name, found) for found in OF_SCRIPTS.findall(COMMENTS.sub("", text))]
    assert not asked


def test_what_asks_the_network_would_be_seen() -> None:
    assert LOADED.search('<link rel="stylesheet" href="https://fonts.example/css?family=Lato">')
    assert LOADED.search("<script async src=//cdn.example/highlight.js></script>")
    assert OF_STYLES.search("src: url('https://fonts.example/lato.woff2')")
    assert OF_SCRIPTS.search(COMMENTS.sub("", '// "https://a.example"\nload("https://cdn.example/mermaid.js")'))
    assert not LOADED.search('<a href="https://example.com">a link asks nothing until it is followed</a>')


def test_every_attack_has_its_page(site: Path) -> None:
    for info in carom.list_attacks():
        page = (site / "attacks" / f"{info.name}.html").read_text(encoding="utf-8")
        assert info.name in page
    index = (site / "attacks" / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{info.name}.html"' in index for info in carom.list_attacks())


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    for name in carom.__all__:
        assert name == "__version__" or f'id="carom.{name}"' in pages, name


def test_pages_from_records_hold_their_numbers() -> None:
    made = dict(results.pages())
    summary = results._recorded("demo")
    cell = summary["modalities"]["image"]["cells"][1]
    shown = results.rate(cell["excess"], cell["excess_low"], cell["excess_high"])
    assert shown in made["results.md"].replace("\u00a0", " ")
    assert made["speed.md"].count("\n| ") >= len(results._recorded("vision")) + len(results._recorded("text"))


def test_lines_are_those_of_statements() -> None:
    def build(steps: int = 3) -> int:
        """Not a line."""

        doubled = (
            2 * steps
        )  # fmt: skip
        return doubled

    assert attacks.lines_of(build) == 4


def test_every_name_of_the_facade_is_there() -> None:
    missing = [name for name in carom.__all__ if not hasattr(carom, name)]
    assert not missing
