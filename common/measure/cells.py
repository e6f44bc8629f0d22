"""Cells: one source, attack, seed and target, with what was measured of them; and how a cell is written and read.

Everything inside works with `Cell`. Its columns have names at the border alone (`row_of`, `cell_of`): in Parquet, in
JSON, in what users get as rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carom.common.measure.rates import MEASURES, Rate, Rates


@dataclass(frozen=True)
class Terms:
    """Within what, and at what level or cost, a cell was measured."""

    threat: str
    eps: float | None = None  # the budget as a number, where it has one
    matched: float | None = None  # to which white-box success the budget was brought
    unit: str | None = None  # gradients or queries
    allowed: int | None = None  # how many of them an example could spend


@dataclass(frozen=True)
class Spent:
    """What an attack spent on one example, on average."""

    forward: float | None
    backward: float | None
    queries: float | None
    seconds: float | None


@dataclass(frozen=True)
class Over:
    """Transfer over other examples than those that both models get right."""

    rate: Rate
    flips: tuple[str, ...] = ()  # attacks that change places with this cell's, against their order in the headline


@dataclass(frozen=True)
class Cell:
    """One source, attack, seed and target."""

    source: str
    target: str
    source_family: str
    target_family: str
    attack: str
    terms: Terms
    seed: int
    rates: Rates
    spent: Spent
    size: Mapping[str, Any] | None = None  # of the perturbations: {metric: {"median", "mean"}, "changed": share}
    warnings: tuple[str, ...] = ()
    control_limit: float | None = None  # above which the white-box control says that the budget alone breaks the source
    at_level: bool | None = None  # of a matched cell: whether the interval of `white_box` holds the level
    why: str | None = None  # where it does not: why
    denominators: Mapping[str, Over] = field(default_factory=dict)  # of those asked for

    @property
    def own(self) -> bool:
        """Whether source and target are one model."""
        return self.source == self.target

    @property
    def high_control(self) -> bool:
        """Whether random perturbations of the budget alone already break the source."""
        control = self.rates.white_box_control.value
        return control is not None and self.control_limit is not None and control > self.control_limit

    def rate(self, measure: str) -> Rate:
        """One of `MEASURES`."""
        return getattr(self.rates, measure)


BOUNDED = ("transfer", "control", "excess", "relative", "blind", "white_box")
"""The rates whose interval is written beside them."""


def row_of(cell: Cell) -> dict[str, Any]:
    """The cell as users, JSON and Parquet have it: one value a column."""
    terms, rates = cell.terms, cell.rates

    def bounded(name: str) -> dict[str, float | None]:
        rate = cell.rate(name)
        return {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}

    return {
        "source": cell.source,
        "target": cell.target,
        "source_family": cell.source_family,
        "target_family": cell.target_family,
        "attack": cell.attack,
        "matched": terms.matched,
        "threat": terms.threat,
        "eps": terms.eps,
        **({} if terms.allowed is None else {"unit": terms.unit, "allowed": terms.allowed}),
        "seed": cell.seed,
        "n": rates.n,
        **bounded("transfer"),
        **bounded("control"),
        **bounded("excess"),
        **bounded("relative"),
        "conditional": rates.conditional.value,
        "conditional_n": rates.conditional.n,
        "same_mistake": rates.same_mistake.value,
        "swapped": rates.swapped.value,
        "margin_drop": rates.margin_drop,
        **bounded("white_box"),
        "white_box_n": rates.white_box.n,
        "white_box_control": rates.white_box_control.value,
        "targeted": rates.targeted.value,
        "targeted_control": rates.targeted_control.value,
        "forward": cell.spent.forward,
        "backward": cell.spent.backward,
        "queries": cell.spent.queries,
        "seconds": cell.spent.seconds,
        "size": cell.size,
        "warnings": list(cell.warnings),
        **({} if cell.at_level is None else {"at_level": cell.at_level, "why": cell.why}),
        "control_limit": cell.control_limit,
        **bounded("blind"),
        **({"denominators": {name: _over(of) for name, of in cell.denominators.items()}} if cell.denominators else {}),
    }


def _over(of: Over) -> dict[str, Any]:
    rate = of.rate
    return {"transfer": rate.value, "low": rate.low, "high": rate.high, "n": rate.n, "flips": list(of.flips)}


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell that a row was written from. A column that the row lacks is not known."""
    n = row.get("n")
    over = {"conditional": row.get("conditional_n"), "white_box": row.get("white_box_n"), "same_mistake": None}
    over["white_box_control"] = over["white_box"]

    def rate(name: str) -> Rate:
        low, high = (row.get(f"{name}_{end}") if name in BOUNDED else None for end in ("low", "high"))
        return Rate(row.get(name), low, high, over.get(name, n))

    return Cell(
        source=row["source"],
        target=row["target"],
        source_family=row.get("source_family", ""),
        target_family=row.get("target_family", ""),
        attack=row["attack"],
        terms=Terms(row.get("threat", ""), row.get("eps"), row.get("matched"), row.get("unit"), row.get("allowed")),
        seed=row["seed"],
        rates=Rates(
            n=n or 0,
            margin_drop=row.get("margin_drop"),
            **{name: rate(name) for name in MEASURES},
        ),
        spent=Spent(*(row.get(name) for name in ("forward", "backward", "queries", "seconds"))),
        size=row.get("size"),
        warnings=tuple(row.get("warnings") or ()),
        control_limit=row.get("control_limit"),
        at_level=row.get("at_level"),
        why=row.get("why"),
        denominators={
            name: Over(Rate(of["transfer"], of["low"], of["high"], of["n"]), tuple(of["flips"]))
            for name, of in (row.get("denominators") or {}).items()
        },
    )
