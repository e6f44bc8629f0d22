"""Universal triggers: a few words, the same for all texts, put before (or behind) each; learned on other texts.

Wallace, Feng, Kandpal, Gardner and Singh 2019, Universal adversarial triggers for attacking and analyzing NLP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.edits.requests import ranked, steepest
from carom.common.attacks.gradient.universal import content, once
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.base.specs import existing
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.tasks import of_classes
from carom.common.core.threats import Threat
from carom.text.attacks.base import word_attacks
from carom.text.language.tokenizers import vocabulary
from carom.text.pairs import open_span, open_words
from carom.text.threats import WordBudget
from carom.text.words import Span, is_word

TRIGGERS = word_attacks(needs=Access.GRADIENT | Access.EXAMPLES, shared=True)


@dataclass(frozen=True)
class Vocabulary:
    """What a trigger may be made of: the first `most` whole words of the shipped vocabulary (of film reviews, the most
    frequent first) or of a file with one word a line; without those of another file, such as a lexicon of sentiment."""

    most: int = 5000
    file: str | None = None
    without: str | None = None
    digest: str = ""  # of what the files hold

    @classmethod
    def read(cls, most: int, file: str | None, without: str | None) -> Vocabulary:
        if most < 2:
            raise CaromError("a trigger needs words to choose from: most=2 or more.")
        held = [existing(path, "file of words").read_bytes() for path in (file, without) if path]
        found = cls(most, file, without, hashlib.sha256(b"\0".join(held)).hexdigest() if held else "")
        if len(words_of(found)) < 2:
            raise CaromError(f"{file or without}: not two words are left. Give a file with one word a line.")
        return found


@lru_cache(maxsize=8)
def words_of(source: Vocabulary) -> dict[str, int]:
    """The words, each with its number."""
    known = [word for word, _ in vocabulary()] if source.file is None else _lines(source.file)
    banned = set() if source.without is None else {word.lower() for word in _lines(source.without)}
    kept = [word for word in dict.fromkeys(known) if is_word(word) and word.lower() not in banned]
    return {word: number for number, word in enumerate(kept[: source.most])}


def _lines(path: str) -> list[str]:
    """The first column of a file: what lexicons call a word."""
    text = existing(path, "file of words").read_text(encoding="utf-8", errors="replace")
    return [line.split("\t")[0].strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Beside(WordBudget):
    """Words of a vocabulary before a text, or `behind` it, and the text as it was: at most `max_changed` (a share) as
    many as it has. Of a pair, they stand beside the side that may be changed."""

    source: Vocabulary = Vocabulary()
    behind: bool = False

    def room(self, text: str) -> int:
        """How many words may be added."""
        return self.limit(len(open_words(text)))

    def put(self, text: str, words: Sequence[str]) -> str:
        start, stop = open_span(text)
        at, said = stop if self.behind else start, " ".join(words)
        return text[:at] + ((f" {said}" if self.behind else f"{said} ") if words else "") + text[at:]

    def spans(self, text: str, words: Sequence[str]) -> list[Span]:
        """Where the words stand once they are put beside the text."""
        start, stop = open_span(text)
        at, found = stop + 1 if self.behind else start, []
        for word in words:
            found.append((at, at + len(word)))
            at += len(word) + 1
        return found

    def added(self, text: str, text0: str) -> tuple[str, ...] | None:
        """The words that make `text` of `text0`; None if it is no text with words beside it."""
        start, stop = open_span(text0)
        at, more = stop if self.behind else start, max(0, len(text) - len(text0))
        words = tuple(text[at : at + more].split())
        return words if self.put(text0, words) == text else None

    def _allows(self, text: str, text0: str) -> bool:
        words = self.added(text, text0)
        return words is not None and len(words) <= self.room(text0) and all(w in words_of(self.source) for w in words)

    def control(self, batch: Batch, rng: Rng, like: Sequence[str]) -> list[str]:
        """As many words as `like` has, at the same place, each a random one of the vocabulary."""
        known, texts = list(words_of(self.source)), []
        for i, (text, other) in enumerate(zip(batch.inputs, like, strict=True)):
            count, mine, drawn = len(self.added(other, text) or ()), rng[torch.tensor([i])], text
            for number in range(max(1, self.redraws)):
                drawn = self.put(text, [known[n] for n in mine.fold("trigger", number).integers(len(known), count)[0]])
                if self.admits([(drawn, text)])[0]:
                    break
            texts.append(drawn)
        return texts

    @property
    def blind_changes(self) -> int:
        return 3

    def blind(self, batch: Batch, number: int) -> list[str]:
        """As many words as fit: the first of the vocabulary, which are the commonest of the default one, the very first
        again and again, or the last."""
        known = list(words_of(self.source))
        texts = []
        for text in batch.inputs:
            most = self.room(text)
            while most:
                words = (known[:most], known[:1] * most, known[-most:])[number]
                if self.admits([(made := self.put(text, words), text)])[0]:
                    break
                most //= 2
            texts.append(made if most else text)
        return texts

    def swap(self, batch: Batch, rng: Rng, other: Sequence[str], other0: Sequence[str]) -> list[str]:
        """The words beside the other text, as many as fit, beside this one."""
        pairs = zip(batch.inputs, other, other0, strict=True)
        return [self.put(text, (self.added(new, old) or ())[: self.room(text)]) for text, new, old in pairs]


@runtime_checkable
class Embeds(Protocol):
    """A model of texts that grants the gradient at its words (`models.TokenModel`)."""

    def word_gradient(self, texts: Sequence[str], goal: Goal, spans: Sequence[Sequence[Span]]) -> list[Tensor]: ...

    def embed_words(self, words: Sequence[str]) -> Tensor: ...


Learned = tuple[tuple[str, ...], Status, int, int]
"""A trigger, how learning it ended, forward and backward passes that it took."""


@dataclass(frozen=True)
class Trigger:
    """Learn a trigger on `Problem.others` and put it beside every text.

    From "the the the", each step takes the gradient at the words of the trigger, summed over the texts, and picks for
    each place the `top` words of the highest first-order gain (Ebrahimi et al. 2018, HotFlip); place by place they are
    tried on all texts, and the best `width` triggers kept (Wallace et al. 2019, section 2.3 and its beam). It ends after
    `steps` steps, or when one changes nothing. What it climbs is minus the logistic loss of the margin: for two
    classes, the paper's cross-entropy.

    As in the paper there is a trigger for each class: untargeted, learned on and for texts of one label; targeted, for
    one target, on texts of other labels. A text that has room for fewer than `words` words gets a trigger of that many,
    learned by itself. Departures: whole words, whose embedding is the mean of their tokens'; no lexicon of sentiment
    keeps trivial words out unless one is given (`Vocabulary`). At most `texts` others are used, the first by a hash.

    What is learned follows from model, others, class and number of words alone, and is kept with the model; its cost is
    charged in full to every text that it serves, as in `universal.Universal`.
    """

    words: int = 3
    steps: int = 10
    width: int = 1
    top: int = 20
    texts: int = 64
    source: Vocabulary = Vocabulary()
    behind: bool = False

    def __post_init__(self) -> None:
        if min(self.words, self.steps, self.width, self.top, self.texts) < 1:
            raise CaromError("a trigger needs words, steps, width, top and texts of 1 or more.")

    def within(self, threat: Threat) -> Threat:
        assert isinstance(threat, WordBudget), "triggers work within a WordBudget"
        names = ("max_changed", "candidates", "keep_stop_words", "constraints")
        return Beside(**{name: getattr(threat, name) for name in names}, source=self.source, behind=self.behind)

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        threat, goal = problem.threat, of_classes(problem.goal)
        assert isinstance(threat, Beside), "a trigger is put beside the text"
        if problem.others is None or not len(problem.others):
            raise CaromError("a trigger is learned on texts that are not under attack; none were given.")
        if not isinstance(problem.model, Embeds):
            raise CaromError(f"model {problem.model.name} grants no gradient at its words, which triggers follow.")
        oracle, texts = Oracle(problem, batch), list(batch.inputs)
        status = torch.full_like(batch.labels, Status.DONE.value)
        groups: dict[tuple[int, int], list[int]] = {}  # (class, number of words) -> examples
        for i, of in enumerate((goal.labels if goal.targets is None else goal.targets).tolist()):
            groups.setdefault((of, min(self.words, threat.room(texts[i]))), []).append(i)
        with problem.model.frozen():
            for (of, count), rows in groups.items():
                learned: Learned = ((), Status.INFEASIBLE, 0, 0)
                if count:
                    learned = self.known(problem, problem.others, of, count)
                words, ended, forward, backward = learned
                new = [threat.put(texts[i], words) for i in rows]
                admitted = threat.admits([(text, texts[i]) for i, text in zip(rows, new, strict=True)])
                for i, text, fits in zip(rows, new, admitted, strict=True):
                    texts[i] = text if fits else texts[i]
                    status[i] = ended.value if fits else Status.INFEASIBLE.value
                    oracle.count(i, forward, backward)
            logits = oracle.logits(texts, pays=False)
        return Result(texts, goal.achieved(logits).cpu(), oracle.cost(), status.cpu())

    def known(self, problem: Problem, others: Batch, of: int, count: int) -> Learned:
        """Learned now, or before."""

        def learned() -> Learned:
            learner = self.learner(problem, others, of)
            words, ended = self.learn(learner, count)
            return words, ended, int(learner.forward.sum()), int(learner.backward.sum())

        return once(problem.model, (self, content(others), of, problem.goal.targeted, count), learned)

    def learner(self, problem: Problem, others: Batch, of: int) -> Oracle:
        """The same problem about other texts: those of the label to be led away from, or those without the target; all,
        if there are none."""
        wanted = others.labels != of if problem.goal.targeted else others.labels == of
        rows = (wanted if bool(wanted.any()) else torch.ones_like(wanted)).nonzero().squeeze(1)
        order = Rng.of(0, [others.ids[i] for i in rows.tolist()]).uniform().argsort(stable=True)
        part = others.take(rows[order[: self.texts].sort().values])
        targets = torch.full_like(part.labels, of) if problem.goal.targeted else None
        return Oracle(replace(problem, goal=Goal(part.labels, targets)), part)

    def learn(self, learner: Oracle, count: int) -> tuple[tuple[str, ...], Status]:
        lab = _Lab(learner, list(words_of(self.source)))
        kept = [("the" if "the" in lab.words else lab.words[0],) * count]
        lab.try_out(kept)
        for step in range(self.steps):
            before = kept[0]
            slopes = lab.slopes(before)
            if not bool(slopes.isfinite().all()) or before not in lab.scores:
                return (), Status.BAD_GRADIENT
            if not bool(slopes.any()):
                return (() if step == 0 else before), (Status.NO_GRADIENT if step == 0 else Status.DONE)
            for place in range(count):
                picked = [lab.words[n] for n in steepest(slopes[place].tolist(), self.top)]
                new = [(*old[:place], word, *old[place + 1 :]) for old in kept for word in picked]
                kept = lab.try_out([*kept, *new])[: self.width]
            if kept[0] == before:
                break
        return kept[0], Status.DONE


class _Lab:
    """Triggers tried out on the other texts."""

    TIE = 1e-6  # mean losses this close are equal

    def __init__(self, learner: Oracle, words: list[str]) -> None:
        self.learner, self.words = learner, words
        self.threat, self.texts = learner.problem.threat, list(learner.batch.inputs)
        self.scores: dict[tuple[str, ...], float] = {}
        self.margins: dict[tuple[str, ...], Tensor] = {}

    def try_out(self, triggers: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """The triggers, the best first; those whose scores are not finite are left out."""
        assert isinstance(self.threat, Beside)
        triggers = list(dict.fromkeys(triggers))
        new, every = [t for t in triggers if t not in self.margins], torch.arange(len(self.texts))
        if new:
            rows = every.repeat(len(new))
            logits = self.learner.logits([self.threat.put(x, t) for t in new for x in self.texts], rows, pays=False)
            margins = self.learner.goal(rows).loss(margin, logits).double().view(len(new), -1)
            for trigger, own, finite in zip(new, margins, logits.isfinite().all(1).view(len(new), -1), strict=True):
                self.margins[trigger] = own
                if bool(finite.all()):
                    self.scores[trigger] = -float(F.softplus(-own).mean())
        triggers = [trigger for trigger in triggers if trigger in self.scores]
        return [triggers[n] for n in ranked([self.scores[trigger] for trigger in triggers], self.TIE)]

    def slopes(self, trigger: tuple[str, ...]) -> Tensor:
        """float64[places, vocabulary]: how much the objective would grow, to first order, with each word there."""
        assert isinstance(self.threat, Beside)
        model = self.learner.problem.model
        assert isinstance(model, Embeds)
        texts = [self.threat.put(text, trigger) for text in self.texts]
        spans = [self.threat.spans(text, trigger) for text in self.texts]
        grads = torch.stack(model.word_gradient(texts, of_classes(self.learner.goal()), spans)).double()
        for row in range(len(texts)):
            self.learner.count(row, forward=1, backward=1)
        total = (torch.sigmoid(-self.margins[trigger])[:, None, None] * grads).sum(0)
        own = (model.embed_words(trigger).double() * total).sum(1, keepdim=True)
        return total @ model.embed_words(self.words).double().T - own if bool(total.any()) else 0 * total


@TRIGGERS.attack(
    "trigger",
    "the same few words before every text of a class, learned on others",
    paper="Wallace et al. 2019, Universal adversarial triggers for attacking and analyzing NLP",
    cost="steps * texts backward, steps * words * width * top * texts forward at most, learned once but charged to "
    "each example; 1 forward",
    departures="whole words; no lexicon of sentiment unless one is given",
)
def trigger(
    words: int = 3,
    steps: int = 10,
    width: int = 1,
    top: int = 20,
    texts: int = 64,
    most: int = 5000,
    vocabulary: str | None = None,
    without: str | None = None,
    behind: bool = False,
) -> Trigger:
    """`words` words of a vocabulary (`most`; a file, `vocabulary`; less those of the file `without`) before each text,
    or `behind` it, learned on at most `texts` others."""
    return Trigger(words, steps, width, top, texts, Vocabulary.read(most, vocabulary, without), behind)
