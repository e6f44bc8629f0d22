"""A text as words that can be exchanged: what a substitution search edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from carom.common.attacks.edits.editable import BLANK, DROPPED, Edit
from carom.text.candidates.base import Merged
from carom.text.words import Span, Word, replace

UNKNOWN = "[UNK]"
"""What stands for a word that no model knows, as in TextAttack; BERT's tokenisers read it as their unknown token."""


REMEMBERED = 1 << 15  # words whose options are kept: enough for all that come again soon


@dataclass(frozen=True)
class Sentence:
    """One text whose words can be exchanged (an `Editable`). Sites are the words that may be changed, in order."""

    text: str
    words: Sequence[Word]  # of a pair, those of the side that may be changed
    sites: Sequence[int]  # indices into words
    options: Sequence[tuple[str, ...]]  # of each site
    limit: int

    @cached_property
    def sizes(self) -> list[int]:
        return [len(options) for options in self.options]

    def price(self, site: int, option: int) -> int:
        """How many changes an option counts as."""
        return 2 if option >= 0 and isinstance(self.options[site][option], Merged) else 1

    def word(self, site: int) -> Word:
        return self.words[self.sites[site]]

    def edit(self, edit: Edit) -> str:
        """Of changes that overlap, the first one stands."""
        made: list[tuple[Span, str]] = []
        for site, option in sorted(edit.items()):
            change = self.change(site, option)
            if not made or made[-1][0][1] <= self.word(site).start:
                made.append(change)
        return replace(self.text, made)

    def change(self, site: int, option: int) -> tuple[Span, str]:
        """The characters that an option replaces, and by what."""
        word = self.word(site)
        new = UNKNOWN if option == BLANK else "" if option == DROPPED else self.options[site][option]
        if not new:  # with the space before it, so that no two are left
            start = word.start - (word.start > 0 and self.text[word.start - 1] == " ")
            return (start, word.stop), ""
        if isinstance(new, Merged) and (behind := self.sites[site] + 1) < len(self.words):
            return (word.start, self.words[behind].stop), new
        return word.span, new

    def plain(self, site: int, option: int) -> bool:
        """Whether an option stands exactly where its word stood."""
        return option == BLANK or (option >= 0 and bool(o := self.options[site][option]) and not isinstance(o, Merged))

    def spans(self, edit: Edit) -> list[Span]:
        """Where each site's word stands in the edited text; of no width if it is gone."""
        moved, gone, spans = 0, 0, []
        for site in range(len(self.sites)):
            word = self.word(site)
            if word.start < gone:  # another has taken its place
                spans.append((gone + moved, gone + moved))
                continue
            start, stop, new = word.start, word.stop, word.text
            if site in edit:
                (start, stop), new = self.change(site, edit[site])
                gone = stop
            spans.append((start + moved, start + moved + len(new)))
            moved += len(new) - (stop - start)
        return spans

    def derive(self, text: str) -> dict[int, int] | None:
        """The least changes that make `text` of this one; None if none do."""
        # (characters read of this text, of the other) -> (price, changes, the last one first)
        states: dict[tuple[int, int], tuple[int, tuple]] = {(0, 0): (0, ())}
        for site, options in enumerate(self.options):
            word, then = self.word(site), {}  # type: tuple[Word, dict[tuple[int, int], tuple[int, tuple]]]
            for (read, made), (price, path) in states.items():
                if read > word.start:
                    _keep(then, (read, made), price, path)
                    continue
                lead = self.text[read : word.stop]
                if text.startswith(lead, made):
                    _keep(then, (word.stop, made + len(lead)), price, path)
                for option in range(len(options)):
                    cost = price + self.price(site, option)
                    if cost <= self.limit:
                        (start, stop), new = self.change(site, option)
                        lead = self.text[read:start] + new
                        if text.startswith(lead, made):
                            _keep(then, (stop, made + len(lead)), cost, ((site, option), path))
            states = then
        ends = [end for (read, made), end in states.items() if text[made:] == self.text[read:]]
        if not ends:
            return None
        _, path = min(ends, key=lambda end: end[0])
        found = {}
        while path:
            (site, option), path = path
            found[site] = option
        return found


def _keep(states: dict, at: tuple[int, int], price: int, path: tuple) -> None:
    if at not in states or price < states[at][0]:
        states[at] = (price, path)
