"""The second null of words: changes that know neither model nor what a text says.

Within a budget a change of words cannot be the same for all texts, as it can be for pixels: a new word has to be an option
of the old one. What is the same is the rule: the option that English has most often, or most seldom, at places that are
named by their number or by that frequency alone. Frequency is the place in the list of words that ships with Carom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from carom.text.language.tokenizers import vocabulary
from carom.text.sentence import Sentence

CHANGES = 4
"""How many rules there are: the commonest options, wherever they are commonest; of the first words; of the last ones; the
rarest options, wherever they are rarest."""


@cache
def _places() -> dict[str, int]:
    return {word: place for place, (word, _) in enumerate(vocabulary())}


def rarity(option: str) -> int:
    """The place of a word among those that English has most often; behind the last one where it is not among them."""
    return _places().get(option.lower(), len(_places()))


def rule(sentence: Sentence, number: int) -> list[tuple[int, int]]:
    """(site, option) in the order in which a rule changes them."""
    sign = -1 if number == 3 else 1
    chosen = []
    for site, options in enumerate(sentence.options):
        if options:
            ranks = [sign * rarity(option) for option in options]
            least = min(ranks)
            chosen.append((least, site, ranks.index(least)))
    if number in (0, 3):
        chosen.sort()
    return [(site, option) for _, site, option in (reversed(chosen) if number == 2 else chosen)]


def changed(sentence: Sentence, number: int, admits: Callable[[str], bool]) -> str:
    """The text with as many changes by a rule as its budget holds; where the constraints on whole texts do not admit so
    many, half as many, and so on."""
    order = rule(sentence, number)
    for count in _halved(sentence.limit):
        edit: dict[int, int] = {}
        left = count
        for site, option in order:
            if (price := sentence.price(site, option)) <= left:
                edit[site] = option
                left -= price
        text = sentence.edit(edit)
        if admits(text):
            return text
    return sentence.text


def _halved(count: int) -> Iterator[int]:
    while count:
        yield count
        count //= 2
