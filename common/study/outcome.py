"""The outcome of a study: its cells as rows, table and matrix, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from carom.common.base.errors import CaromError
from carom.common.core.tasks import CLASSES
from carom.common.measure.cells import Cell, row_of
from carom.common.measure.denominators import DENOMINATORS, marked
from carom.common.measure.query_curve import success_within
from carom.common.measure.stats import Array, wilson
from carom.common.study.cells import StoredCells, warned_of_masking
from carom.common.study.comparisons.matching import Match
from carom.common.study.doubts import doubt_of
from carom.common.study.outputs.summary import write_run_report
from carom.common.study.outputs.tables import table_of
from carom.common.study.plan import Plan
from carom.common.work.executor import Failure
from carom.common.work.store import Store


@dataclass
class Transfer:
    """The outcome of a study of one modality."""

    plan: Plan
    store: Store
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    matches: list[Match] = field(default_factory=list)

    @cached_property
    def stored(self) -> StoredCells:
        """What the cells are made of."""
        return StoredCells(self.plan, self.store)

    @cached_property
    def at_budget(self) -> list[Cell]:
        """One source x attack x seed x target each."""
        return marked(warned_of_masking([cell for cell, _ in self.stored.at_budget()]))

    @cached_property
    def at_success(self) -> list[Cell]:
        """The same at the budgets that bring each source to equal white-box success."""
        return marked(list(self.stored.at_success(self.matches)))

    @cached_property
    def at_cost(self) -> list[Cell]:
        """The same at equal numbers of gradients or queries per example."""
        return marked(list(self.stored.at_cost()))

    def models(self) -> list[dict[str, Any]]:
        """One row a model: name, family, clean accuracy with its Wilson interval."""
        rows = []
        n = len(self.plan.data)
        sources = {m.digest for m in self.plan.sources}
        targets = {m.digest for m in self.plan.targets}
        for model in self.plan.models:
            clean = self.stored.clean(model)
            right = None if clean is None else int(clean.right.sum())
            low, high = (None, None) if right is None else wilson(right, n)
            both = model.digest in sources and model.digest in targets
            rows.append(
                {
                    "name": model.name,
                    "family": model.family.value,
                    "role": "both" if both else "source" if model.digest in sources else "target",
                    "clean_accuracy": None if right is None else right / n,
                    "clean_low": low,
                    "clean_high": high,
                    "n": n,
                    "digest": model.digest,
                    "facts": dict(model.facts),
                }
            )
        return rows

    def doubts(self) -> list[str]:
        """Models whose clean accuracy is near chance, or whose answers look like another order of the classes."""
        data = self.plan.data
        if data.task != CLASSES:
            return []
        known = [(m, self.stored.clean(m)) for m in self.plan.models if not (m.silent or m.recorded)]
        found = [doubt_of(m, clean.kind, data.labels.numpy(), data.classes) for m, clean in known if clean is not None]
        return [line for line in found if line is not None]

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell: source x attack x seed x target. Rates that are not defined are None."""
        return [row_of(cell) for cell in self.at_budget]

    def resampled(self) -> list[tuple[Cell, Array]]:
        """Each cell with its excess transfer in every resample of the examples, float64[B]. The resamples are the same
        for all cells, so intervals of means and differences of cells are paired."""
        return self.stored.at_budget()

    def matched_rows(self) -> list[dict[str, Any]]:
        """The same at the budgets that bring each source to equal white-box success: `matched` says to which, `eps` and
        `threat` within what, `white_box` what was reached there, and `at_level` whether its interval holds the level.
        """
        return [row_of(cell) for cell in self.at_success]

    def curve_rows(self) -> list[dict[str, Any]]:
        """The cells at equal cost: `allowed` says how many of `unit` (gradients or queries) an example could spend;
        what was spent is in `backward` and `queries`."""
        return [row_of(cell) for cell in self.at_cost]

    @property
    def cells(self) -> pa.Table:
        """The cells as a pyarrow table; those at equal white-box success have their level in the column `matched`,
        those at equal cost their allowance in `allowed`."""
        return table_of([*self.rows(), *self.matched_rows(), *self.curve_rows()])

    def to_pandas(self) -> Any:
        return self.cells.to_pandas()

    def matrix(
        self, measure: str = "excess", match: float | None = None, denominator: str | None = None
    ) -> dict[str, dict[str, float | None]]:
        """{source: {target: value}}; several attacks on one source are told apart as "source / attack". With `match`,
        at that level of white-box success. With a `denominator` that the study was asked for, the measure "transfer"
        over its examples."""
        if denominator is not None and (measure != "transfer" or denominator not in self.plan.denominators):
            asked = ", ".join(self.plan.denominators) or "none"
            raise CaromError(
                f"denominator={denominator!r}: only transfer has another denominator, one that the study was asked for "
                f"(denominators: {asked}). Write matrix('transfer', denominator=...), and name it in the study."
            )
        rows = self.rows() if match is None else [r for r in self.matched_rows() if r["matched"] == match]
        several = len({(r["source"], r["attack"], r["seed"]) for r in rows}) > len({r["source"] for r in rows})
        table: dict[str, dict[str, float | None]] = {}
        for row in rows:
            name = f"{row['source']} / {row['attack']} / {row['seed']}" if several else row["source"]
            of = row if denominator is None else row["denominators"][denominator]
            table.setdefault(name, {})[row["target"]] = of[measure]
        return table

    def queries_curve(self, at: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Success on the source against queries, for each source, attack and seed whose answers are paid for: `points`
        with `queries`, `success` and its Wilson interval `low`, `high`, over the n examples that the source gets right
        when clean. `at` says within how many queries; by default 1, 2, 5, 10, 20 ... up to the most that were asked.
        """
        by_shard, curves = [list(self.plan.crafts(shard)) for shard in self.plan.shards()], []
        for crafts in zip(*by_shard, strict=True):
            clean = self.stored.clean(crafts[0].source)
            if clean is None or not all(self.store.has(craft.key) for craft in crafts):
                continue
            tables = [self.store.rows(craft.key).select(["queries", "success"]) for craft in crafts]
            table = pa.concat_tables(tables)
            queries, success = (table[name].to_numpy()[clean.right] for name in ("queries", "success"))
            if queries.any():
                curves.append(
                    {
                        "source": crafts[0].source.name,
                        "attack": crafts[0].chosen.label,
                        "threat": self.plan.threat_label,
                        "eps": self.plan.eps,
                        "seed": crafts[0].seed,
                        "n": len(queries),
                        "points": [asdict(share) for share in success_within(queries, success, at)],
                    }
                )
        return curves

    def summary(self) -> dict[str, Any]:
        """What `--json` prints of one modality."""
        return {
            "data": self.plan.data.name,
            "data_digest": self.plan.data.digest,
            "examples": len(self.plan.data),
            "skipped": list(self.plan.data.skipped),
            "warnings": [*self.plan.data.remarks, *self.doubts()],
            "left_out": self.plan.left_out(),
            "classes": list(self.plan.data.classes),
            "threat": self.plan.threat_label,
            "targeted": self.plan.targeted,
            "target_class": self.plan.aimed_at,
            "denominators": {name: DENOMINATORS[name] for name in self.plan.denominators},
            "models": self.models(),
            "metrics": [
                {
                    **{name: getattr(m, name) for name in ("name", "label", "summary", "reference")},
                    "missing": m.missing(),
                }
                for m in self.plan.metrics
            ],
            "cells": self.rows(),
            "matched": self._matched(),
            "curve": self._curve(),
            "queries": self.queries_curve(),
            "failures": [{"what": f.what, "error": f.error} for f in self.failures],
            "seconds": round(self.seconds, 2),
        }

    def _matched(self) -> dict[str, Any] | None:
        """What `--json` prints of the comparison at equal white-box success; None if it was not asked for."""
        if self.plan.matching is None:
            return None
        plan = self.plan.for_matching()
        return {
            "levels": list(self.plan.matching.levels),
            "weakest": self.plan.matching.scale[0].label,
            "cap": self.plan.matching.scale[-1].label,
            "examples": len(plan.data),
            "controls": plan.controls,
            "searched": max((match.searched for match in self.matches), default=0),
            "cells": self.matched_rows(),
        }

    def _curve(self) -> dict[str, Any] | None:
        """What `--json` prints of the comparison at equal cost; None if it was not asked for."""
        curve = self.plan.curve
        if curve is None:
            return None
        return {
            "unit": curve.unit,
            "amounts": list(curve.amounts),
            "examples": len(self.plan.for_curve().data),
            "left_out": self.plan.off_curve(),
            "cells": self.curve_rows(),
        }

    def report(self, path: Path | str) -> Path:
        """Write this modality's report, one HTML file, and say where it is."""
        write_run_report([self], path := Path(path))
        return path
