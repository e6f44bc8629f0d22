"""Pages of the attacks, made from the registry while the site is built: an index, and a page for every name.

Nothing here is written by hand or committed: a new attack has its page once it is registered.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from carom.common.attacks.info import MODELS, AttackInfo
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import describe_attack, list_attacks, paper

BUILT_IN = ("image", "audio", "text")
FOLDER = "attacks"

HEAD = """# Attacks

{count} names in the registry, as `carom list attacks` prints them. *Needs* is what the source has to grant; *within* are the
kinds of threat it works in; *lines* are the statements of the function that composes it from parts.
"""


def lines_of(build: Callable[..., object]) -> int:
    """Source lines of the statements of a function, its docstring aside."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(build))).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return sum((part.end_lineno or part.lineno) - part.lineno + 1 for part in body)


def index(found: list[tuple[str, AttackInfo]]) -> str:
    """The page of all attacks, a table a modality."""
    parts = [HEAD.format(count=len({info.name for _, info in found}))]
    for owner in dict.fromkeys(owner for owner, _ in found):
        rows = [info for name, info in found if name == owner]
        parts.append(f"\n## {owner.capitalize()}: {len(rows)}\n\n{get_modality(owner).summary.capitalize()}.\n")
        parts.append("| name | what it does | paper | needs | within | lines |\n|---|---|---|---|---|---|")
        parts += [_row(info) for info in rows]
    return "\n".join(parts) + "\n"


def _row(info: AttackInfo) -> str:
    needs, within = ", ".join(info.needs.words()), ", ".join(info.threats)
    facts = (_cell(info.summary), _cell(paper(info.reference)), needs, within, str(lines_of(info.build)))
    return f"| [`{info.name}`]({info.name}.md) | {' | '.join(facts)} |"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|")


def page(name: str, entries: list[tuple[str, AttackInfo]]) -> str:
    """The page of one name: what each modality has under it; modalities that share an entry share a section."""
    groups: dict[str, list[str]] = {}
    for owner, info in entries:
        groups.setdefault(_section(owner, info), []).append(owner)
    parts = [f"# {name}\n"]
    for text, owners in groups.items():
        parts.append((f"## {' and '.join(owners).capitalize()}\n\n" if len(groups) > 1 else "") + text)
    return "\n".join(parts)


def _section(owner: str, info: AttackInfo) -> str:
    facts = describe_attack(owner, info)
    rows: dict[str, Any] = {
        "Paper": info.reference,
        "Needs": f"{', '.join(facts['needs'])} of the source",
        "Sources": MODELS[info.models],
        "Within": ", ".join(info.threats),
        "Cost per example": info.cost,
        "Aimed at a class": "yes" if info.targeted else "no, untargeted only",
        "Depends on the seed": "yes" if info.random else "no",
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {what} | {_cell(value)} |" for what, value in rows.items())])
    given = "\n".join(f"| `{key}` | `{_cell(default)}` |" for key, default in facts["parameters"].items())
    parameters = f"\n| parameter | default |\n|---|---|\n{given}\n" if given else "\nIt has no parameters.\n"
    summary = info.summary[0].upper() + info.summary[1:]
    says = inspect.getdoc(info.build) or ""
    code = textwrap.dedent(inspect.getsource(info.build)).rstrip()
    return f"{summary}.\n\n{table}\n{parameters}\n{says}\n\n```python\n{code}\n```\n"


def pages() -> Iterator[tuple[str, str]]:
    """(path below docs/, Markdown) of every page."""
    found = [entry for owner in BUILT_IN for entry in list_attacks(owner)]
    yield f"{FOLDER}/index.md", index(found)
    for name in dict.fromkeys(info.name for _, info in found):
        yield f"{FOLDER}/{name}.md", page(name, [entry for entry in found if entry[1].name == name])


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs when it has collected the files of docs/."""
    from mkdocs.structure.files import File

    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files
