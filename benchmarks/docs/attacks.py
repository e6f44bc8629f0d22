"""The pages of the attacks on the documentation site, from the registry: an index, and a page for every name.

Nothing of them is written by hand or committed: a new attack has its page once it is registered (docs/hooks/pages.py).
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from carom.common.attacks.info import MODELS, AttackInfo
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import describe_attack, list_attacks, paper

BUILT_IN = ("image", "audio", "text")

HEAD = """# Attacks

{count} names in the registry, as `carom list attacks` prints them. *Needs* is what the source has to grant, *within* the
kinds of threat it works in, *lines* the statements of the function that composes it, as many source lines as they take.
"""

Entry = tuple[str, AttackInfo]
"""(modality, entry of its registry)"""


def pages() -> Iterator[tuple[str, str]]:
    """(path below docs/, Markdown) of every page."""
    found = [entry for owner in BUILT_IN for entry in list_attacks(owner)]
    yield "attacks/index.md", index(found)
    for name in dict.fromkeys(info.name for _, info in found):
        yield f"attacks/{name}.md", page(name, [entry for entry in found if entry[1].name == name])


def index(found: Sequence[Entry]) -> str:
    """The page of all attacks, a table a modality."""
    parts = [HEAD.format(count=len({info.name for _, info in found}))]
    for owner in dict.fromkeys(owner for owner, _ in found):
        rows = [info for name, info in found if name == owner]
        parts.append(f"\n## {owner.capitalize()}\n\n{len(rows)} attacks. Inputs are {get_modality(owner).summary}.\n")
        parts.append("| name | what it does | paper | needs | within | lines |\n|---|---|---|---|---|---|")
        parts += [_row(info) for info in rows]
    return "\n".join(parts) + "\n"


def page(name: str, entries: Sequence[Entry]) -> str:
    """The page of one name: what each modality has under it. Modalities that have the same share a section."""
    groups: dict[str, list[Entry]] = {}
    for owner, info in entries:
        groups.setdefault(_section([(owner, info)], within=False), []).append((owner, info))
    parts = [f"# {name}\n\nOne of [all attacks](index.md).\n"]
    for those in groups.values():
        parts.append(f"## {' and '.join(owner for owner, _ in those).capitalize()}\n\n{_section(those)}")
    return "\n".join(parts)


def _code(build: Callable[..., object]) -> str:
    """The source of a function without what registers it."""
    source = textwrap.dedent(inspect.getsource(build))
    (function,) = ast.parse(source).body
    return "\n".join(source.splitlines()[function.lineno - 1 :])


def lines_of(build: Callable[..., object]) -> int:
    """Source lines of the statements of a function, its docstring aside."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(build))).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return sum((part.end_lineno or part.lineno) - part.lineno + 1 for part in body)


def _row(info: AttackInfo) -> str:
    needs, within = ", ".join(info.needs.words()), ", ".join(info.threats)
    facts = (_cell(info.summary), _cell(paper(info.reference)), needs, within, str(lines_of(info.build)))
    return f"| [`{info.name}`]({info.name}.md) | {' | '.join(facts)} |"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("*", "\\*")


def _section(entries: Sequence[Entry], within: bool = True) -> str:
    """What entries that differ at most in their threats have to say, with or without these."""
    owner, info = entries[0]
    facts = describe_attack(owner, info)
    kinds = {owner: ", ".join(info.threats) for owner, info in entries}
    said = [f"{kind} ({owner})" if len(set(kinds.values())) > 1 else kind for owner, kind in kinds.items()]
    rows: dict[str, Any] = {
        "paper": info.reference,
        **({"departures": info.departures} if info.departures else {}),
        "needs": f"{', '.join(facts['needs'])}",
        "sources": MODELS[info.models],
        **({"within": "; ".join(dict.fromkeys(said))} if within else {}),
        "cost per example": info.cost,
        "can be aimed at a class": "yes" if info.targeted else "no",
        "depends on the seed": "yes" if info.random else "no",
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {what} | {_cell(value)} |" for what, value in rows.items())])
    given = "\n".join(f"| `{key}` | `{default}` |" for key, default in facts["parameters"].items())
    parameters = f"| parameter | default |\n|---|---|\n{given}" if given else "It has no parameters."
    summary = _cell(info.summary[0].upper() + info.summary[1:])
    code = _code(info.build)
    says = (inspect.getdoc(info.build) or "").replace("\n\n", "\n\n> ")
    return "\n\n".join([f"{summary}.", table, parameters, f"> {says}", f"```python\n{code}\n```"]) + "\n"
