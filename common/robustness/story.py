"""A judgement in sentences, made of what its JSON holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

NO_DIFFERENCE = 0.05  # p above which a gain may be chance


def share(value: float | None) -> str:
    """.31; an en dash where it is not defined.

    >>> share(0.305), share(1.0), share(-0.02), share(None)
    ('.30', '1.00', '-.02', '–')
    """
    return "–" if value is None else f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def told(row: Row) -> str:
    """Robust accuracy with its interval, or why there is none."""
    if row["robust_accuracy"] is None:
        return str(row["status"])
    return f"{share(row['robust_accuracy'])} [{share(row['robust_low'])}, {share(row['robust_high'])}]"


def story_of(judgement: Mapping[str, Any]) -> list[str]:
    """What a reader has to know of a judgement, a sentence or two each."""
    rows: Sequence[Row] = judgement["models"]
    n, threat = judgement["examples"], judgement["threat"]
    lines = [
        f"{len(rows)} models were attacked within {threat} on {n} examples of {judgement['data']}, each by attackers who "
        "know all that stands before it; an example counts as robust when it is right when clean and no attacker makes it "
        "wrong without its being rejected."
        if len(rows) > 1
        else f"{rows[0]['model']} was attacked within {threat} on {n} examples of {judgement['data']}."
    ]
    lines += [line for row in rows for line in _of_model(row)]
    if known := [row for row in rows if row["robust_accuracy"] is not None]:
        best = max(known, key=lambda row: row["robust_accuracy"])
        if len(rows) > 1:
            lines.append(f"The most robust of those with a number is {best['model']}: {told(best)}.")
    elif len(rows) > 1:
        lines.append("No model has a number that its attackers' tests allow.")
    return lines


def _of_model(row: Row) -> Iterator[str]:
    name = row["model"]
    if row["robust_accuracy"] is None:
        why = row["reasons"][0] if row["reasons"] else ""
        yield f"{name}: {row['status']} ({why}). Robust accuracy is at most {share(row['at_most'])}."
    else:
        gain = row.get("gain")
        more = ""
        if gain is not None and row["gain_p"] is not None:
            chance = row["gain_p"] > NO_DIFFERENCE
            word = "more" if gain > 0 else "less" if gain < 0 else ""
            more = (
                f", {share(abs(gain))} {word} than without the defence" if word else ", the same as without the defence"
            )
            more += ", which may be chance" if word and chance else ""
        yield f"{name} keeps {told(row)} of {share(row['clean_accuracy'])} clean accuracy{more}."
    cost = row.get("clean_cost")
    if cost is not None and abs(cost) >= 0.005:
        said = "costs" if cost > 0 else "adds"
        yield f"On clean inputs {row['defence']} {said} {share(abs(cost))} of accuracy."
    handed = [one for one in row["attacks"] if not one["evidence"]]
    own = [one for one in row["attacks"] if one["attacker"] == "adaptive"]
    if handed and own:
        most, least = min(one["accuracy"] for one in handed), min(one["accuracy"] for one in own)
        if most - least >= 0.1:
            yield (
                f"Examples crafted elsewhere leave {name} at {share(most)}, which is no evidence of robustness: attacked "
                f"through the defence it is at {share(least)}."
            )
