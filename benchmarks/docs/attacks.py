"""The table of attacks in docs/attacks.md, from the registry.

    python -m carom.benchmarks.docs.attacks > docs/attacks.md

`lines` are those of the function that composes the attack, without its docstring, blank lines and signature.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable

from carom.common.attacks.info import AttackInfo
from carom.common.modality.installed import modality_names
from carom.common.modality.registry import list_attacks

HEAD = """# Attacks

Made by `python -m carom.benchmarks.docs.attacks > docs/attacks.md`. `lines`: statements of the function that composes the
attack, as many source lines as they take. Norms are kinds of threat; access is what the source has to grant; departures are
where Carom's version differs from the paper's.
"""


def lines_of(build: Callable[..., object]) -> int:
    """Source lines of the statements of a function, its docstring aside."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(build))).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return sum((part.end_lineno or part.lineno) - part.lineno + 1 for part in body)


def row(info: AttackInfo) -> str:
    paper = info.reference.replace("|", "\\|")
    words = ", ".join(info.needs.words())
    norms, lines = ", ".join(info.threats), str(lines_of(info.build))
    facts = (info.summary, paper, words, norms, info.cost, lines, info.departures)
    return f"| `{info.name}` | {' | '.join(facts)} |"


def document() -> str:
    parts = [HEAD]
    for modality in modality_names():
        found = [info for _, info in list_attacks(modality)]
        parts.append(f"\n## {modality.capitalize()}: {len(found)}\n")
        parts.append(
            "| name | what it does | paper | access | norms | cost per example | lines | departures |\n"
            "|---|---|---|---|---|---|---|---|"
        )
        parts += [row(info) for info in found]
    return "\n".join(parts)


if __name__ == "__main__":
    print(document())
