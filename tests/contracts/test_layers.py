"""The house stands in layers: a package imports only those below it, no file imports in a circle, modalities never
import each other, and `common` knows none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import carom.common

ROOT = Path(carom.common.__file__).parents[1]
FOLDERS = ("common", "vision", "audio", "text")
MODALITIES = FOLDERS[1:]
MOST_FILES = 15  # of code in one folder, beside its face

# Layers from the ground up. What stands in one row does not import each other.
COMMON = [
    {"base", "measure"},
    {"core"},
    {"models"},
    {"loading", "attacks"},
    {"work"},
    {"defences"},
    {"modality"},
    {"surrogates", "report"},
    {"study"},
    {"robustness"},
    {"runs"},
    {"api"},
    {"judging"},
    {"cli"},
]
ATTACKS = [
    {"info", "restarts"},
    {"gradient", "worst_case", "edits"},
    {"inside", "minimal", "query", "trees", "cost"},
    {"catalogue"},
]
# Besides: the report is made of numbers alone, and edits know no other kind of attack.
FORBIDDEN = [("report", "attacks"), ("report", "models"), ("report", "loading")]

Arrow = tuple[str, str]


def sources(root: Path) -> dict[str, str]:
    """Dotted name of each module below the folders -> its source."""
    found = {}
    for folder in FOLDERS:
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            if not {"scripts", "_root"} & set(parts):
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


@cache
def imported(source: str) -> tuple[tuple[str, str], ...]:
    """(module, name that is taken from it or "") of every import of Carom's, those for type checkers left out."""

    def walk(node: ast.AST) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.module and child.module.startswith("carom."):
                yield from ((child.module.removeprefix("carom."), name.name) for name in child.names)
            elif isinstance(child, ast.Import):
                yield from ((n.name.removeprefix("carom."), "") for n in child.names if n.name.startswith("carom."))
            yield from walk(child)

    return tuple(walk(ast.parse(source)))


def imports(source: str, known: Mapping[str, str]) -> set[str]:
    """The modules of Carom that a module imports anywhere in it."""
    return {inner if (inner := f"{home}.{name}") in known else home for home, name in imported(source)}


def arrows(modules: Mapping[str, str]) -> list[Arrow]:
    return [(name, other) for name, source in modules.items() for other in imports(source, modules) if other != name]


def rank(layers: list[set[str]], name: str) -> int:
    return next(place for place, layer in enumerate(layers) if name in layer)


def upward(modules: Mapping[str, str]) -> list[Arrow]:
    """Imports from a package into one that is not below it."""
    found = []
    for here, there in arrows(modules):
        a, b = here.split("."), there.split(".")
        for depth, head, layers in ((1, ("common",), COMMON), (2, ("common", "attacks"), ATTACKS)):
            inside = all(len(p) > depth and tuple(p[:depth]) == head for p in (a, b))
            if inside and a[depth] != b[depth] and rank(layers, a[depth]) <= rank(layers, b[depth]):
                found.append((here, there))
    return found


def astray(modules: Mapping[str, str]) -> list[Arrow]:
    """Imports of a modality by `common` or by another modality, and those that are forbidden besides."""
    found = []
    for here, there in arrows(modules):
        a, b = [*here.split("."), ""], [*there.split("."), ""]
        if (b[0] in MODALITIES and a[0] != b[0]) or (a[0] == b[0] == "common" and (a[1], b[1]) in FORBIDDEN):
            found.append((here, there))
    return found


def circles(modules: Mapping[str, str]) -> list[list[str]]:
    """Groups of modules each of which imports, directly or not, all others of its group."""
    graph = {name: imports(source, modules) & set(modules) - {name} for name, source in modules.items()}
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set(), list(graph[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += graph[name]
        reach[start] = seen
    groups = {frozenset({b for b in reach[a] if a in reach[b]} | {a}) for a in graph if a in reach[a]}
    return [sorted(group) for group in groups]


@cache
def decisions(source: str) -> tuple[int, ...]:
    """Lines that compare with the name of a modality, or look something up by it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.match_case):
            asked = list(ast.walk(node.pattern))
        elif isinstance(node, ast.Dict):
            asked = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        spread = [part for one in asked for part in (one, *getattr(one, "elts", []))]
        found += [p.lineno for p in spread if isinstance(p, ast.Constant) and p.value in ("image", "audio", "text")]
    return tuple(found)


def names_that_decide(modules: Mapping[str, str]) -> list[str]:
    """Where `common` asks for a modality by its name."""
    common = {name: source for name, source in modules.items() if name.partition(".")[0] == "common"}
    return [f"{name}:{line}" for name, source in common.items() for line in decisions(source)]


@pytest.fixture(scope="module")
def modules() -> dict[str, str]:
    return sources(ROOT)


def test_packages_import_only_those_below_them(modules):
    assert not upward(modules)


def test_modalities_stand_alone_and_common_knows_none(modules):
    assert not astray(modules)


def test_no_file_imports_in_a_circle(modules):
    assert not circles(modules)


def test_common_asks_for_no_modality_by_name(modules):
    assert not names_that_decide(modules)


def test_every_package_is_in_the_plan(modules):
    packages = {name.split(".")[1] for name in modules if name.startswith("common.")}
    assert packages <= set().union(*COMMON)
    wings = {name.split(".")[2] for name in modules if name.startswith("common.attacks.")}
    assert wings <= set().union(*ATTACKS)


def test_folders_stay_small():
    counts: dict[Path, int] = {}
    for folder in (*FOLDERS, "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "__init__.py":
                counts[path.parent] = counts.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize(
    ("planted", "line", "check"),
    [
        ("common.base.errors", "from carom.common.study.plan import Plan", upward),
        ("common.attacks.edits.leap", "from carom.common.attacks.catalogue.gradient import pgd", upward),
        ("common.models.trees", "def f():\n    import carom.common.cli.main", upward),
        ("common.measure.stats", "from carom.common.base.rng import Rng", upward),
        ("common.report.page", "from carom.common.models.networks import TorchModel", astray),
        ("common.core.data", "from carom.vision.space import PIXELS", astray),
        ("vision.space", "from carom.text import words", astray),
        ("common.core.spaces", "from carom.common.core.threats import Linf", circles),
        ("common.core.spaces", "def f(m):\n    return m == 'image'", names_that_decide),
        ("common.core.spaces", "def f(m):\n    return m in ('audio', 'tables')", names_that_decide),
        ("common.core.spaces", "KINDS = {'text': 1}", names_that_decide),
    ],
)
def test_the_checks_can_fail(modules, planted, line, check):
    assert len(check({**modules, planted: f"{modules[planted]}\n{line}\n"})) > len(check(modules))
