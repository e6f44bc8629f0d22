"""How the report shows one adversarial text: the words that were exchanged, in their context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from carom.common.core.spaces import Space
from carom.common.modality.panels import Panel, WordDiff
from carom.text.pairs import sides
from carom.text.space import changes
from carom.text.words import trim

_PIECE = re.compile(r"\s+|\S+")
CONTEXT = 120  # characters of an unchanged stretch that are shown at each end, where it is long


def panels(space: Space, stored: str, adversarial: str, facts: Mapping[str, Any]) -> list[Panel]:
    """One diff. Long unchanged stretches are shortened; the texts of a pair stand one behind the other, by name."""
    return [WordDiff("", list(runs(shown(stored, facts), shown(adversarial, facts))))]


def shown(text: str, facts: Mapping[str, Any]) -> str:
    """A text as a person reads it: "premise: A man sleeps. | hypothesis: A man is awake."."""
    pair = sides(text)
    if pair is None:
        return text
    return f"{facts.get('first', 'first')}: {pair[0]} | {facts.get('second', 'second')}: {pair[1]}"


def runs(text0: str, text: str) -> Iterator[tuple[str, str]]:
    """("", same), ("del", removed) and ("ins", added) runs that lead from text0 to text."""
    found = changes(text, text0)
    if found is None:  # not a change of words alone
        yield from _middle(text0, text)
        return
    at = 0
    for _, old, new in found:
        if old.start > at:
            yield "", _shorten(text0[at : old.start], at == 0, False)
        yield from [("del", old.text), ("ins", new)]
        at = old.stop
    if at < len(text0):
        yield "", _shorten(text0[at:], at == 0, True)


def _middle(text0: str, text: str) -> Iterator[tuple[str, str]]:
    """Runs of texts that differ somewhere in between: words were added, left out or merged."""
    old, new = (_PIECE.findall(x) for x in (text0, text))
    gone, come = trim(old, new)
    start = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    head, tail = "".join(old[:start]), "".join(old[start + len(gone) :])
    if head:
        yield "", _shorten(head, True, False)
    for kind, part in (("del", "".join(gone)), ("ins", "".join(come))):
        if part:
            yield kind, part
    if tail:
        yield "", _shorten(tail, not head, True)


def _shorten(text: str, first: bool, last: bool) -> str:
    """A long stretch without its middle; at either end of the text, without what lies far from any change."""
    if len(text) <= 3 * CONTEXT:
        return text
    head = "" if first and not last else text[:CONTEXT]
    tail = "" if last and not first else text[-CONTEXT:]
    return f"{head} … {tail}"
