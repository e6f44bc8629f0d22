"""The transfer evaluator: sources x attacks x targets on the same examples, with controls, intervals and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from carom.common.core.metrics import summarised
from carom.common.core.model import Model
from carom.common.core.problem import COUNTS, Status
from carom.common.core.threats import Ball
from carom.common.measure.query_curve import success_within
from carom.common.measure.rates import LEAST_EXAMPLES, LEAST_WHITE_BOX, MOST_CONTROL, Answers, Measure
from carom.common.measure.stats import Array, Bootstrap, wilson
from carom.common.study.matching import Match
from carom.common.study.plan import Plan
from carom.common.study.summary import write_run_report
from carom.common.study.tables import table_of
from carom.common.work.executor import Failure
from carom.common.work.store import Store
from carom.common.work.units import NOTE, Clean, Craft, Judge


@dataclass
class Transfer:
    """The outcome of a study of one modality."""

    plan: Plan
    store: Store
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    matches: list[Match] = field(default_factory=list)

    def answers(self, judges: Sequence[Judge]) -> Answers | None:
        """What a model said, by its judges on every shard; None where one is not in the store."""
        if not all(self.store.has(j.key) for j in judges):
            return None
        tables = [self.store.rows(j.key) for j in judges]
        columns = {name: np.concatenate([t[name].to_numpy() for t in tables]) for name in ("answer", "margin")}
        return Answers(columns["answer"], columns["margin"].astype(np.float64))

    def clean(self, model: Model) -> Answers | None:
        """The model's answers to the clean data."""
        return self.answers([Judge(model, Clean(s), s, "") for s in self.plan.shards()])

    def models(self) -> list[dict[str, Any]]:
        """One row a model: name, family, clean accuracy with its Wilson interval."""
        rows = []
        labels = self.plan.data.labels.numpy()
        sources = {m.digest for m in self.plan.sources}
        targets = {m.digest for m in self.plan.targets}
        for model in self.plan.models:
            answers = self.clean(model)
            right = None if answers is None else int((answers.answer == labels).sum())
            low, high = (None, None) if right is None else wilson(right, len(labels))
            both = model.digest in sources and model.digest in targets
            rows.append(
                {
                    "name": model.name,
                    "family": model.family.value,
                    "role": "both" if both else "source" if model.digest in sources else "target",
                    "clean_accuracy": None if right is None else right / len(labels),
                    "clean_low": low,
                    "clean_high": high,
                    "n": len(labels),
                    "digest": model.digest,
                    "facts": dict(model.facts),
                }
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell: source x attack x seed x target. Rates that are not defined are None."""
        cells = [cell for cell, _ in self.resampled()]
        _warn_of_masking(cells)
        return cells

    def resampled(self) -> list[tuple[dict[str, Any], Array]]:
        """Each cell with its excess transfer in every resample of the examples, float64[B]. The resamples are the same
        for all cells, so intervals of means and differences of cells are paired."""
        bootstrap = Bootstrap.of(len(self.plan.data))
        by_shard = [list(self.plan.crafts(shard)) for shard in self.plan.shards()]
        budget = {"matched": None, "threat": self.plan.threat_label, "eps": self.plan.eps}
        return [cell for crafts in zip(*by_shard, strict=True) for cell in self._cells_of(crafts, bootstrap, budget)]

    def matched_rows(self) -> list[dict[str, Any]]:
        """The same at the budgets that bring each source to equal white-box success: `matched` says to which, `eps` and
        `threat` within what, `white_box` what was reached there, and `at_level` whether its interval holds the level.
        """
        if not self.matches:
            return []
        part = Transfer(self.plan.for_matching(), self.store)
        bootstrap, cells = Bootstrap.of(len(part.plan.data)), []
        for match in self.matches:
            budget = {"matched": match.level, "threat": match.budget.label, "eps": match.budget.eps}
            for crafts in part.plan.matched_crafts(match):
                for row, _ in part._cells_of(crafts, bootstrap, budget):
                    at_level = row["white_box_low"] <= match.level <= row["white_box_high"]
                    why = None if at_level else match.why(row["white_box"], row["white_box_high"])
                    cells.append({**row, "at_level": at_level, "why": why})
        return cells

    def curve_rows(self) -> list[dict[str, Any]]:
        """The cells at equal cost: `allowed` says how many of `unit` (gradients or queries) an example could spend;
        what was spent is in `backward` and `queries`."""
        if self.plan.curve is None:
            return []
        part, unit = Transfer(self.plan.for_curve(), self.store), self.plan.curve.unit
        bootstrap, cells = Bootstrap.of(len(part.plan.data)), []
        for amount, crafts in part.plan.curve_crafts():
            budget = {"matched": None, "threat": self.plan.threat_label, "eps": self.plan.eps}
            budget |= {"unit": unit, "allowed": amount}
            cells += [row for row, _ in part._cells_of(crafts, bootstrap, budget)]
        return cells

    def _cells_of(
        self, crafts: Sequence[Craft], bootstrap: Bootstrap, budget: Mapping[str, Any]
    ) -> list[tuple[dict[str, Any], Array]]:
        """The cells of one source, attack and seed, from its craft on every shard; each with its resampled excess."""
        craft, plan = crafts[0], self.plan
        if not all(self.store.has(c.key) for c in crafts):
            return []
        judged: dict[str, tuple[Answers, list[Answers], Answers]] = {}
        for model in plan.judged(craft):
            attacked, controls, swapped = zip(*(plan.judges(c, model) for c in crafts), strict=True)
            answers = [self.answers(a) for a in (attacked, *zip(*controls, strict=True), swapped)]
            if all(a is not None for a in answers):
                judged[model.digest] = (answers[0], answers[1:-1], answers[-1])  # type: ignore[assignment]
        table = pa.concat_tables([self.store.rows(c.key) for c in crafts])
        cost = {name: float(np.mean(table[name].to_numpy())) for name in COUNTS}
        cost["seconds"] = sum(self.store.seconds(c.key) for c in crafts) / len(plan.data)
        marks = np.bincount(table["status"].to_numpy(), minlength=len(Status))
        size = self._size(crafts)
        notes = {
            name.removeprefix(NOTE): int(np.sum(table[name].to_numpy(zero_copy_only=False)))
            for name in table.column_names
            if name.startswith(NOTE)
        }
        source_clean = self.clean(craft.source)
        own = judged.get(craft.source.digest)
        if (source_clean is None or own is None) and not craft.source.silent:
            return []
        goals = table["target"].to_numpy() if plan.targeted else None
        measure = Measure(plan.data.labels.numpy(), goals, bootstrap, source_clean, own)
        rows = []
        for target in plan.targets:
            target_clean = self.clean(target)
            if target.digest not in judged or target_clean is None:
                continue
            rates, draws = measure.cell(target_clean, judged[target.digest])
            row: dict[str, Any] = {
                "source": craft.source.name,
                "target": target.name,
                "source_family": craft.source.family.value,
                "target_family": target.family.value,
                "attack": craft.chosen.label,
                **budget,
                "seed": craft.seed,
                **rates,
                **cost,
                "size": size,
            }
            row["warnings"] = self._warnings(row, craft, marks, notes)
            rows.append((row, draws))
        return rows

    def _size(self, crafts: Sequence[Craft]) -> dict[str, Any] | None:
        """How large the perturbations of a craft are; None where that was not measured."""
        sizes = [self.plan.size(craft) for craft in crafts]
        if not self.plan.metrics or not all(self.store.has(size.key) for size in sizes):
            return None
        return summarised(pa.concat_tables([self.store.rows(size.key) for size in sizes]).to_pydict())

    def _warnings(self, row: dict[str, Any], craft: Craft, marks: np.ndarray, notes: Mapping[str, int]) -> list[str]:
        found = []
        if craft.source.silent:
            found.append("what the source answered is not known: counted is all that the target gets right")
        elif craft.source.recorded:
            found.append(
                "the source is known by its recorded answers alone: it has no control, and E none to relate to"
            )
        white, null = row["white_box"], row["white_box_control"]
        if white is not None and white < LEAST_WHITE_BOX and not (row["matched"] or row.get("allowed")):
            found.append(f"white-box success is only {white:.2f}: low transfer may be the attack's failure")
        # Where the null follows what the attack changed, it is compared with the attack, not with a fixed share.
        most = MOST_CONTROL if isinstance(craft.threat, Ball) else (white or 0) / 2
        if null is not None and null > most:
            found.append(f"random perturbations of this budget already fool the source at {null:.2f}")
        if row["n"] < LEAST_EXAMPLES:
            found.append(f"only {row['n']} examples are right on both models")
        for status, words in (
            (Status.BAD_GRADIENT, "gave gradients or scores that are not finite"),
            (Status.NO_GRADIENT, "gave zero gradients"),
        ):
            if marks[status]:
                found.append(f"{marks[status]} examples {words} and were left unchanged")
        return [*found, *(f"{count} examples {words}" for words, count in notes.items() if count)]

    @property
    def cells(self) -> pa.Table:
        """The cells as a pyarrow table; those at equal white-box success have their level in the column `matched`,
        those at equal cost their allowance in `allowed`."""
        return table_of([*self.rows(), *self.matched_rows(), *self.curve_rows()])

    def to_pandas(self) -> Any:
        return self.cells.to_pandas()

    def matrix(self, measure: str = "excess", match: float | None = None) -> dict[str, dict[str, float | None]]:
        """{source: {target: value}}; several attacks on one source are told apart as "source / attack". With `match`,
        at that level of white-box success."""
        rows = self.rows() if match is None else [r for r in self.matched_rows() if r["matched"] == match]
        several = len({(r["source"], r["attack"], r["seed"]) for r in rows}) > len({r["source"] for r in rows})
        table: dict[str, dict[str, float | None]] = {}
        for row in rows:
            name = f"{row['source']} / {row['attack']} / {row['seed']}" if several else row["source"]
            table.setdefault(name, {})[row["target"]] = row[measure]
        return table

    def queries_curve(self, at: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Success on the source against queries, for each source, attack and seed whose answers are paid for: `points`
        with `queries`, `success` and its Wilson interval `low`, `high`, over the n examples that the source gets right
        when clean. `at` says within how many queries; by default 1, 2, 5, 10, 20 ... up to the most that were asked.
        """
        by_shard, curves = [list(self.plan.crafts(shard)) for shard in self.plan.shards()], []
        for crafts in zip(*by_shard, strict=True):
            clean = self.clean(crafts[0].source)
            if clean is None or not all(self.store.has(craft.key) for craft in crafts):
                continue
            tables = [self.store.rows(craft.key).select(["queries", "success"]) for craft in crafts]
            table = pa.concat_tables(tables)
            right = clean.answer == self.plan.data.labels.numpy()
            queries, success = (table[name].to_numpy()[right] for name in ("queries", "success"))
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
            "left_out": self.plan.left_out(),
            "classes": list(self.plan.data.classes),
            "threat": self.plan.threat_label,
            "targeted": self.plan.targeted,
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


def _warn_of_masking(cells: Sequence[dict[str, Any]]) -> None:
    """An attack that has the model should not do worse than the same attack without it: where what was crafted on
    another model fools it more often, beyond both intervals, its gradients mislead."""
    for own in cells:
        if own["source"] == own["target"] and own["white_box_high"] is not None:
            for other in cells:
                same = all(own[key] == other[key] for key in ("target", "attack", "seed"))
                if same and other["source"] != own["source"] and (other["transfer_low"] or 0) > own["white_box_high"]:
                    said = f"the same attack on {other['source']} fools this model more often than on itself"
                    own["warnings"].append(f"{said}: its gradients may be masked")
