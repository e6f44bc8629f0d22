"""A study's summary and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carom.common.report.page import write_report
from carom.common.study.config import Study
from carom.common.study.examples import choose_examples

if TYPE_CHECKING:
    from carom.common.study.outcome import Transfer


def summary_of(
    outcomes: Sequence[Transfer], seconds: float, seeds: Sequence[int], report: str | None = None
) -> dict[str, Any]:
    """What `--json` prints of a run, and what its folder and report are made of."""
    return {
        "version": version("carom"),
        "modalities": {o.plan.modality: o.summary() for o in outcomes},
        "report": report,
        "seconds": round(seconds, 1),
        "seed": seeds[0],
        "seeds": list(seeds),
    }


def write_run_report(
    outcomes: Sequence[Transfer], path: Path, summary: Mapping[str, Any] | None = None, study: Study | None = None
) -> None:
    """One HTML file over all outcomes, with examples of each."""
    per_cell = study.examples if study is not None else 2
    examples = [example for outcome in outcomes for example in choose_examples(outcome, per_cell)]
    if summary is None:
        summary = summary_of(outcomes, sum(o.seconds for o in outcomes), outcomes[0].plan.seeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_report(path, summary, examples, per_cell=per_cell)
