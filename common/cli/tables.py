"""What the command line prints for people: tables on stdout, in plain text when that is no terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from carom.common.measure.cells import Cell
    from carom.common.measure.rates import Rate


def _console() -> Console:
    """Prints what it is given as it is: a path or a name in square brackets is no markup."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**plain)
    return console if console.is_terminal else Console(**plain, width=200)


def shown(value: Any) -> Text:
    """Any value as inert text: control and direction characters are replaced by visible escapes."""
    text = "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
    return Text("".join(c if not unicodedata.category(c).startswith("C") else f"\\u{ord(c):04x}" for c in text))


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(shown(row.get(column)) for column in columns))
    _console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k}={v}" for k, v in value.items())
        table.add_row(shown(name.replace("_", " ")), shown(value))
    _console().print(table)


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    for check in checks:
        mark = "ok  " if check["ok"] else "FAIL" if check["needed"] else "no  "
        _console().print(Text(f"{mark} ") + shown(check["what"]) + Text(": ") + shown(check["found"]))


def rate(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """.42 [.35,.50], as tables print it."""

    def short(x: float) -> str:
        return f"{x:.2f}".replace("0.", ".", 1) if abs(x) < 1 else f"{x:.2f}"

    if value is None:
        return "–"
    return short(value) if low is None or high is None else f"{short(value)} [{short(low)},{short(high)}]"


def print_run(run: Any) -> None:
    """One matrix a modality, how to read it, warnings, and where the report is."""
    console = _console()
    for outcome, (modality, summary) in zip(run.outcomes, run.summary()["modalities"].items(), strict=True):
        cells = outcome.at_budget
        print_matrix(console, modality, summary, cells)
        print_denominators(console, summary, cells)
        print_sizes(console, summary, cells)
        if summary["targeted"]:
            print_targeted(console, summary, cells)
        if summary["matched"] is not None:
            print_matched(console, summary, outcome.at_success)
        if summary["curve"] is not None:
            print_curve(console, summary["curve"], outcome.at_cost)
        for line in summary["skipped"]:
            console.print(Text("  skipped: ") + shown(line))
        for line in summary["warnings"]:
            console.print(Text("  ! ") + shown(line))
        for one in summary["left_out"]:
            console.print(Text("  left out: ") + shown(f"{one['attack']} on {one['source']}, as it {one['why']}"))
    console.print(
        "Cells: excess transfer (T - N) / (1 - N) with its 95% interval, over examples right on both models; "
        "T is the share fooled, N the share a random perturbation of the same budget fools.\n"
        "In brackets after a source: white-box success. * marks it as the cell of source and target alike; "
        "! a warning, spelled out in the report."
    )
    if run.folder is not None:
        path = shown(str((run.folder / "report.html").resolve()))
        console.print(Text(f"{run.seconds:.0f} s   report: ") + path, soft_wrap=True)


def print_matrix(console: Console, modality: str, summary: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    clean = "   ".join(f"{m['name']} {rate(m['clean_accuracy'])}" for m in summary["models"])
    console.print()
    head = shown(f"{modality}: {summary['data']}, {summary['examples']} examples, {summary['threat']}")
    head.stylize("bold")
    console.print(head)
    console.print(Text("clean accuracy  ") + shown(clean))
    for model in summary["models"]:
        if resizes := model["facts"].get("resizes"):
            console.print(Text("  ! ") + shown(f"{model['name']} {resizes}"))

    def title(cell: Cell) -> str:
        return f" ({rate(cell.rates.white_box.value)}{' !' if cell.warnings else ''})"

    _print_cells(console, summary, cells, "source, attack, white-box", title, _excess)


def print_denominators_of(run: Any) -> None:
    """What a run says by other denominators, one modality after the other."""
    console = _console()
    for outcome, (modality, summary) in zip(run.outcomes, run.summary()["modalities"].items(), strict=True):
        console.print(Text(modality, style="bold"))
        print_denominators(console, summary, outcome.at_budget)


FLIPS = 6  # spelled out below a table; the rest are counted


def print_denominators(console: Console, summary: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Transfer by each denominator asked for, and where attacks change places."""
    for name, meaning in summary["denominators"].items():
        known = [cell for cell in cells if name in cell.denominators]
        flips = list(dict.fromkeys(_flip(cell, other) for cell in known for other in cell.denominators[name].flips))

        def said(cell: Cell, name: str = name) -> str:
            over = cell.denominators.get(name)
            return "–" if over is None else with_interval(over.rate) + "*" * cell.own + " ⇅" * bool(over.flips)

        console.print(Text("transfer T, ") + shown(f"{name}: over {meaning}"))
        _print_cells(console, summary, known, "source, attack", lambda cell: "", said)
        for line in flips[:FLIPS]:
            console.print(Text("  ⇅ ") + shown(line))
        if flips[FLIPS:]:
            console.print(Text("  ⇅ ") + shown(f"{len(flips) - FLIPS} more"))


def _flip(cell: Cell, other: str) -> str:
    first, second = sorted((cell.attack, other))
    return f"{cell.source} to {cell.target}: {first} and {second} change places; by E their order is the other"


def _excess(cell: Cell) -> str:
    return with_interval(cell.rates.excess) + "*" * cell.own


def with_interval(found: Rate) -> str:
    return rate(found.value, found.low, found.high)


def print_sizes(console: Console, summary: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """How large the perturbations of each attack on each source are, beside its success there."""
    measured = {(c.source, c.attack, c.seed): (c.rates.white_box, c.size) for c in cells if c.size}
    known = [m for m in summary["metrics"] if m["missing"] is None]
    if not measured or not known:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("size of the perturbations, median over changed examples")
    for head in ("white-box", *(m["label"] for m in known)):
        table.add_column(shown(head), justify="right")
    several = len({seed for *_, seed in measured}) > 1
    for (source, attack, seed), (success, size) in measured.items():
        title = f"{source} {attack}" + (f" seed {seed}" if several else "")
        medians = ((size.get(m["name"]) or {}).get("median") for m in known)
        table.add_row(shown(title), rate(success.value), *(_amount(median) for median in medians))
    console.print(table)
    for metric in summary["metrics"]:
        if metric["missing"] is not None:
            console.print(Text("  ") + shown(f"{metric['label']} was not computed: it {metric['missing']}"))


def _amount(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def print_targeted(console: Console, summary: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """How often the class aimed at was reached, beside how often chance reaches it."""

    def hit(cell: Cell) -> str:
        return f"{rate(cell.rates.targeted.value)} ({rate(cell.rates.targeted_control.value)})"

    console.print("given the class aimed at, and in brackets after random perturbations of the same budget")
    _print_cells(console, summary, cells, "source, attack", lambda cell: "", hit)


def _print_cells(
    console: Console,
    summary: Mapping[str, Any],
    cells: Sequence[Cell],
    first: str,
    title: Callable[[Cell], str],
    said: Callable[[Cell], str],
) -> None:
    """One row a source, attack and seed; one column a target."""
    models = {m["name"]: m for m in summary["models"]}
    rows: dict[tuple[str, str, int], dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.source, cell.attack, cell.seed), {})[cell.target] = cell
    several = len({seed for *_, seed in rows}) > 1
    titles = [
        shown(f"{source} {attack}{f' seed {seed}' if several else ''}{title(next(iter(row.values())))}")
        for (source, attack, seed), row in rows.items()
    ]
    columns = [
        (
            Text.assemble(shown(name), f"\n{models[name]['family']}"),
            [said(row[name]) if name in row else "–" for row in rows.values()],
        )
        for name in dict.fromkeys(c.target for c in cells)
    ]
    for block in _blocks(columns, console.width - 2 - max(text.cell_len for text in (*titles, Text(first)))):
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column(first)
        for head, _ in block:
            table.add_column(head, justify="right", no_wrap=True)
        for i, text in enumerate(titles):
            table.add_row(text, *(values[i] for _, values in block))
        console.print(table)


Column = tuple[Text, list[str]]
"""(head, values)"""


def _blocks(columns: Sequence[Column], room: int) -> Iterator[list[Column]]:
    """Columns in parts that fit beside the titles of their rows, at least one in each."""
    block: list[Column] = []
    left = room
    for head, values in columns:
        width = 3 + max(map(len, [*head.plain.splitlines(), *values]))
        if block and width > left:
            yield block
            block, left = [], room
        block.append((head, values))
        left -= width
    yield block


def print_matched(console: Console, summary: Mapping[str, Any], matched: Sequence[Cell]) -> None:
    """Excess transfer at the budgets that fool each source equally often."""
    for level in summary["matched"]["levels"]:
        cells = [cell for cell in matched if cell.terms.matched == level]
        if not cells:
            continue
        console.print(f"at white-box success {rate(level)}, in brackets what was reached within which budget")

        def title(cell: Cell) -> str:
            return f" ({rate(cell.rates.white_box.value)} at {cell.terms.threat}{'' if cell.at_level else ' !'})"

        _print_cells(console, summary, cells, "source, attack, white-box", title, _excess)


def print_curve(console: Console, curve: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Excess transfer of each attack from each source, averaged over the other models, at every allowance."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"mean excess at equal {curve['unit']}")
    for allowed in curve["amounts"]:
        table.add_column(f"{allowed:,}", justify="right")
    rows: dict[tuple[str, str], dict[int | None, list[float]]] = {}
    for cell in cells:
        at = rows.setdefault((cell.source, cell.attack), {}).setdefault(cell.terms.allowed, [])
        if not cell.own and (gain := cell.rates.excess.value) is not None:
            at.append(gain)
    for (source, attack), points in rows.items():
        known = [points.get(allowed, []) for allowed in curve["amounts"]]
        means = [sum(values) / len(values) if values else None for values in known]
        table.add_row(shown(f"{source} {attack}"), *map(rate, means))
    console.print(table)
    for line in curve["left_out"]:
        console.print(Text("  not at every allowance: ") + shown(line))
