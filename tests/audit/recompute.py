"""The cells of a finished run, computed again from its files alone.

    python tests/audit/recompute.py RUN [--store STORE]

Nothing of Carom is imported: what a rate is, and its interval, is written anew here from docs/concepts/measures.md.
`units.json` in the run's folder says which files of the store a cell is made of; a file is believed where its seal holds.
For data with classes. Exit code 1, and every figure that differs, where one does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import norm

Z = norm.ppf(0.975)
NOTHING = (None, None, None)  # a value that is not defined, and its interval
CLOSE = 1e-12  # sums in another order differ by less


class Files:
    """The rows of a store, checked against their seals."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def rows(self, keys: list[str]) -> pa.Table:
        return pa.concat_tables([self._rows(key) for key in keys])

    def _rows(self, key: str) -> pa.Table:
        place = self.root / key[:2] / key
        seal, content = json.loads(Path(f"{place}.json").read_text()), Path(f"{place}.parquet").read_bytes()
        if seal["key"] != key or seal["files"]["parquet"] != hashlib.sha256(content).hexdigest():
            raise SystemExit(f"{place}.parquet is not what was stored")
        return pq.read_table(pa.BufferReader(content))


# Arithmetic.


def wilson(share: float, n: int) -> tuple[float, float]:
    """Both ends are where a true share s lies Z standard errors from the one seen: n (share - s)^2 = Z^2 s (1 - s)."""
    ends = np.sort(np.roots([n + Z**2, -(2 * n * share + Z**2), n * share**2]).real)
    return (0.0 if share <= 0 else ends[0]), (1.0 if share >= 1 else ends[1])


def resamples(examples: int) -> np.ndarray:
    """[2000, D]: how often each of the D examples is in each resample."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([0, examples])))
    return np.stack([generator.multinomial(examples, np.full(examples, 1 / examples)) for _ in range(2000)])


def percentiles(draws: np.ndarray) -> tuple[float, float] | None:
    """Where the middle 95 % of the draws end, between neighbours in proportion; None where more than a tenth are not
    defined."""
    known = np.sort(draws[np.isfinite(draws)])
    if len(known) < 0.9 * len(draws):
        return None
    ends = []
    for part in (0.025, 0.975):
        at = part * (len(known) - 1)
        below = int(at)
        above = min(below + 1, len(known) - 1)
        ends.append(known[below] + (at - below) * (known[above] - known[below]))
    return ends[0], ends[1]


def beyond(transfer, control):
    """E = (T - N) / (1 - N)."""
    with np.errstate(all="ignore"):
        return np.where(control == 1, np.nan, (transfer - control) / (1 - control))


def widest(*ends: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """The smallest interval that holds all those that there are."""
    there = [one for one in ends if one is not None]
    return (min(low for low, _ in there), max(high for _, high in there)) if there else (None, None)


# One cell.


class Examples:
    """D examples, and the resamples of them that all cells share."""

    def __init__(self, count: int) -> None:
        self.counts = resamples(count)

    def mean(self, hits: np.ndarray, among: np.ndarray) -> float | None:
        return float(hits[among].sum() / among.sum()) if among.any() else None

    def means(self, hits: np.ndarray, among: np.ndarray) -> np.ndarray:
        """[2000]: the mean over those examples `among` that are in each resample."""
        with np.errstate(all="ignore"):
            return self.counts @ (hits * among) / (self.counts @ among)

    def share(self, hits: np.ndarray | None, among: np.ndarray, resampled: bool = False) -> tuple:
        """(share of hits, both ends of its interval): Wilson's, and where hits are means of draws that of resamples."""
        if hits is None or (value := self.mean(hits, among)) is None:
            return NOTHING
        more = percentiles(self.means(hits, among)) if resampled else None
        return value, *widest(wilson(value, int(among.sum())), more)

    def excess(self, fooled: np.ndarray, null: np.ndarray | None, among: np.ndarray) -> tuple:
        """(E, both ends, E of each resample)"""
        if null is None or not among.any():
            return *NOTHING, None
        transfer, low, high = self.share(fooled, among)
        control = self.mean(null, among)
        value = float(beyond(transfer, control))
        draws = beyond(self.means(fooled, among), self.means(null, among))
        if np.isnan(value):
            return *NOTHING, draws
        moved = (float(beyond(low, control)), float(beyond(high, control)))
        return value, *widest(moved, percentiles(draws)), draws


class Answers:
    """What one model answers to what was crafted, to its controls, swaps and blind changes."""

    def __init__(self, files: Files, keys: dict, labels: np.ndarray, wanted: np.ndarray | None) -> None:
        def fooled(table: pa.Table) -> np.ndarray:
            return (said(table) != labels) & accepted(table)

        def draws(lists: list) -> list[pa.Table]:
            return [files.rows(one) for one in lists]

        attacked, controls = files.rows(keys["attacked"]), draws(keys["controls"])
        self.said, self.margin = said(attacked), attacked["margin"].to_numpy()
        self.fooled = fooled(attacked).astype(float)
        self.null = np.mean([fooled(one) for one in controls], axis=0) if controls else None
        self.swapped = fooled(files.rows(keys["swapped"])).astype(float)
        self.blind = [fooled(one).astype(float) for one in draws(keys["blind"])]
        self.hit = self.null_hit = None
        if wanted is not None:
            self.hit = ((self.said == wanted) & accepted(attacked)).astype(float)
            hits = [(said(one) == wanted) & accepted(one) for one in controls]
            self.null_hit = np.mean(hits, axis=0) if hits else None


def said(table: pa.Table) -> np.ndarray:
    return table["answer"].to_numpy()


def accepted(table: pa.Table) -> np.ndarray:
    if "rejected" in table.column_names:
        return ~table["rejected"].to_numpy(zero_copy_only=False)
    return np.ones(len(table), bool)


def cell(examples: Examples, source: dict, target: dict, all_right: np.ndarray) -> dict[str, float | int | None]:
    """The columns of one cell. `source` and `target` hold "right" and "margin" on clean inputs, and "answers";
    `all_right` says which examples all models get right."""
    own, theirs, both = source["answers"], target["answers"], source["right"] & target["right"]
    fooling = own.fooled.astype(bool)
    gain, low, high, draws = examples.excess(theirs.fooled, theirs.null, both)
    own_gain, _, _, own_draws = examples.excess(own.fooled, own.null, both)
    relative = NOTHING
    if gain is not None and own_gain is not None and own_gain >= 0.05:
        with np.errstate(all="ignore"):
            found = percentiles(draws / own_draws)
        moved = None
        if own is not theirs:
            _, *wide = examples.share(theirs.fooled, both)
            null = examples.mean(theirs.null, both)
            moved = tuple(float(beyond(end, null)) / own_gain for end in wide)
        relative = (gain / own_gain, *widest(moved, found))
    best = max((examples.share(one, both) for one in theirs.blind), key=lambda share: share[0] or 0.0, default=NOTHING)
    alike = ((theirs.said == own.said) & fooling).astype(float)
    columns = {
        "n": int(both.sum()),
        **bounded("transfer", examples.share(theirs.fooled, both)),
        **bounded("control", examples.share(theirs.null, both, resampled=True)),
        **bounded("excess", (gain, low, high)),
        **bounded("relative", relative),
        "conditional": examples.mean(theirs.fooled, both & fooling),
        "conditional_n": int((both & fooling).sum()),
        "same_mistake": examples.mean(alike, both & theirs.fooled.astype(bool)),
        "swapped": examples.mean(theirs.swapped, both),
        "margin_drop": examples.mean(target["margin"] - theirs.margin, both),
        **bounded("blind", best),
        **bounded("white_box", examples.share(own.fooled, source["right"])),
        "white_box_n": int(source["right"].sum()),
        "white_box_control": examples.share(own.null, source["right"])[0],
        "targeted": examples.share(theirs.hit, both)[0],
        "targeted_control": examples.share(theirs.null_hit, both)[0],
    }
    everything = np.ones(len(both), bool)
    for name, among in (("all-right", all_right), ("source-fooled", both & fooling), ("everything", everything)):
        share = examples.share(theirs.fooled, among)
        names = (f"{name} {column}" for column in ("transfer", "low", "high", "n"))
        columns |= dict(zip(names, (*share, int(among.sum())), strict=True))
    return columns


def bounded(name: str, found: tuple) -> dict[str, float | None]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


# A whole run.


def figures(files: Files, part: dict) -> Iterator[tuple[tuple, dict[str, float | int | None]]]:
    """(what a row goes by, its columns) for every model and every cell of one part of `units.json`."""
    examples, clean = Examples(part["examples"]), {}
    first = files.rows(part["crafts"][0]["craft"])
    labels, ids = first["label"].to_numpy(), first["id"].to_pylist()
    for model, keys in part["clean"].items():
        table = files.rows(keys)
        assert table["id"].to_pylist() == ids
        right = (said(table) == labels) & accepted(table)
        clean[model] = {"right": right, "margin": table["margin"].to_numpy()}
        share = right.sum() / len(right)
        low, high = wilson(share, len(right))
        yield (model,), {"clean_accuracy": share, "clean_low": low, "clean_high": high, "n": len(right)}
    all_right = np.logical_and.reduce([model["right"] for model in clean.values()])
    for entry in part["crafts"]:
        crafted = files.rows(entry["craft"])
        assert crafted["id"].to_pylist() == ids
        wanted = crafted["target"].to_numpy() if "target" in crafted.column_names else None
        models = {
            model: {**clean[model], "answers": Answers(files, keys, labels, wanted)}
            for model, keys in entry["answers"].items()
        }
        spent = {name: float(np.mean(crafted[name].to_numpy())) for name in ("forward", "backward", "queries")}
        by = tuple(entry[name] for name in ("attack", "seed", "threat", "matched", "allowed"))
        for target in models:
            columns = cell(examples, models[entry["source"]], models[target], all_right)
            yield (entry["source"], target, *by), {**columns, **spent}


def stated(part: dict, cells: list[dict]) -> dict[tuple, dict]:
    """The same as the run states it."""
    names = ("source", "target", "attack", "seed", "threat", "matched", "allowed")
    for row in cells:
        for name, over in row.get("denominators", {}).items():
            row |= {f"{name} {column}": value for column, value in over.items()}
    return {(model["name"],): model for model in part["models"]} | {tuple(c.get(n) for n in names): c for c in cells}


def compare(run: Path, store: Path | None = None) -> tuple[int, list[str]]:
    """(how many figures were computed again, what is said of each that differs)"""
    ledger, result = (json.loads((run / f"{name}.json").read_text()) for name in ("units", "result"))
    files = Files(store or Path(json.loads((run / "study.json").read_text())["store"]))
    compared, wrong = 0, []
    for modality, parts in ledger.items():
        summary = result["modalities"][modality]
        for name, part in parts.items():
            rows = summary["cells"] if name == "cells" else summary[name]["cells"]
            found, said_of = dict(figures(files, part)), stated(summary, rows)
            if name != "cells":  # over other examples than the models' clean accuracy
                found, said_of = ({k: v for k, v in of.items() if len(k) > 1} for of in (found, said_of))
            targets = {key for key in said_of if len(key) > 1}
            wrong += [f"{modality} {key}: nothing in the store to compute it from" for key in targets - found.keys()]
            for key, columns in found.items():
                if key not in said_of:
                    continue  # a source that is no target, judged for its white-box success alone
                for column, value in columns.items():
                    if " " in column and column not in said_of[key]:
                        continue  # a denominator that the study was not asked for
                    compared += 1
                    other = said_of[key].get(column)
                    same = value is other is None or (None not in (value, other) and abs(value - other) <= CLOSE)
                    if not same:
                        wrong.append(f"{modality} {' '.join(map(str, key))}: {column} is {value}, the run says {other}")
    return compared, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    compared, wrong = compare(given.run, given.store)
    print(*wrong, f"{compared} figures computed again, {len(wrong)} differ", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
