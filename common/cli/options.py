"""What the commands share: options, exit codes, progress, and how a run ends. Nothing heavy is imported here."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from carom.common.base.errors import CaromError
from carom.common.base.files import folder_for

DONE, BUG, BAD_INPUT, FAILED_UNITS, GATE, INTERRUPTED = 0, 1, 2, 3, 4, 130


def say(text: str) -> None:
    """One line on stderr, with nothing in it that a terminal would obey."""
    shown = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
    click.echo(shown.replace("\n", " "), err=True)


def warn(text: str) -> None:
    """Something that the user should look at, on stderr, whoever asked for no progress."""
    say(f"carom: warning: {text}")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


class Group(click.Group):
    """A group that answers an unknown command with the nearest known one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        import difflib

        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(self.list_commands(ctx))}."
            raise click.UsageError(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


Option = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json: Option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of tables."
)
quiet: Option = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
device_option: Option = click.option(
    "--device", default="auto", show_default=True, help="auto (a GPU when there is one), cpu, cuda, cuda:1."
)
precision_option: Option = click.option(
    "--precision",
    help="Of the gradients: fp32, tf32, bf16, auto. Success is judged in fp32.  [default: fp32]",
)
workers_option: Option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that share the work and the cores; each loads every model.  [default: 1; demo: 2 where it has them]",
)
modality_option: Option = click.option(
    "--modality", "-m", help="image, audio or text. A further modality installs under its own name."
)


@contextlib.contextmanager
def progress(quiet_too: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar on stderr when that is a terminal; a line at every quarter otherwise; nothing when quiet."""
    if quiet_too:
        yield None
        return
    if not sys.stderr.isatty():
        last: list[Any] = [None]

        def report(done: int, total: int, what: str) -> None:
            mark = (what.split(":")[0], 4 * done // max(1, total))
            if mark != last[0]:
                last[0] = mark
                say(f"[{done}/{total}] {what}")

        yield report
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what[:60])

        yield advance


@contextlib.contextmanager
def training(quiet_too: bool, name: str) -> Iterator[Callable[[int, int, float], None]]:
    """Progress of a training, epoch by epoch."""
    with progress(quiet_too) as advance:

        def report(done: int, total: int, loss: float) -> None:
            if advance is not None:
                advance(done, total, f"{name}: epoch {done} of {total}, loss {loss:.3f}")

        yield report


def run_folder(out: Path | str | None, store: Path | str) -> Path:
    """Where a run is written: as asked, or by date and time. It and the store can be written, or this says why not. A
    store that holds work is only read where it holds all: what it lacks is refused when it is missed."""
    if not any(Path(store).glob("[0-9a-f][0-9a-f]/*.json")):
        folder_for("the store", store, "--store")
    return folder_for("the run", out or time.strftime("runs/%Y-%m-%d-%H%M%S"), "--out")


def finish(run: Any, json_too: bool, fail_above: Sequence[str]) -> None:
    """Print the outcome of a run and end with its exit code."""
    from carom.common.cli.tables import print_run

    if json_too:
        print_json(run.summary())
    else:
        print_run(run)
    for failure in run.failures:
        say(f"failed: {failure.what}: {failure.error}")
    unmet = [line for gate in fail_above for line in _unmet(run, gate)]
    for line in unmet:
        say(f"gate not met: {line}")
    if run.failures:
        raise click.exceptions.Exit(FAILED_UNITS)
    if unmet:
        raise click.exceptions.Exit(GATE)


def _unmet(run: Any, gate: str) -> list[str]:
    """The cells between different models that exceed a gate METRIC=X."""
    metric, limit = parse_gate(gate)
    return [
        f"{cell.source} -> {cell.target} ({cell.attack}): {metric} {value:.3f} > {limit:g}"
        for outcome in run.outcomes
        for cell in outcome.at_budget
        if not cell.own and (value := cell.rate(metric).value) is not None and value > limit
    ]


def parse_gate(gate: str) -> tuple[str, float]:
    """The metric and the limit of METRIC=X."""
    from carom.common.base.specs import number
    from carom.common.measure.rates import MEASURES

    metric, equals, limit = gate.partition("=")
    if not equals or metric not in MEASURES:
        raise CaromError(f"--fail-above {gate}: write METRIC=X with a metric of {', '.join(MEASURES)}.")
    return metric, number(limit)


denominator_option: Option = click.option(
    "--denominator",
    "denominators",
    multiple=True,
    metavar="NAME",
    help="Say transfer besides over other examples than those both models get right, and mark where the order of attacks "
    "flips: all-right, source-fooled, everything. Repeat.",
)

fail_above_option: Option = click.option(
    "--fail-above",
    multiple=True,
    metavar="METRIC=X",
    help="Exit with 4 when a cell between different models exceeds X, for example excess=0.3.",
)
