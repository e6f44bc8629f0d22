"""The evaluator on tasks that are not classes, and on a model that rejects: transcripts, a threshold, a guard.

Nothing in `carom` knows the task of transcripts below: it is written here, as anybody may write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import carom
from carom.audio.space import Waveform
from carom.common.attacks.info import AttackChoice, AttackInfo
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access, Batch, Output, as_output
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.problem import Cost, Result
from carom.common.core.spaces import Box
from carom.common.core.tasks import Answers, Task, Threshold
from carom.common.core.threats import Linf, Threat
from carom.common.measure.stats import wilson
from carom.common.models.ensembles import Ensemble
from carom.common.study import examples
from carom.common.study import plan as module
from carom.common.study.evaluate import evaluate
from carom.common.study.examples import choose_examples
from carom.common.study.plan import Plan
from carom.common.work.store import Store


def near(value):
    return pytest.approx(value, abs=1e-12)


def cell(outcome, target):
    (row,) = [r for r in outcome.rows() if r["target"] == target]
    return row


def ones(batch):
    return torch.ones(len(batch), dtype=torch.long)


def told(name, needs, threat, build) -> AttackInfo:
    return AttackInfo(name=name, summary="", reference="", needs=needs, threats=(threat,), build=build, cost="")


# Transcripts: a word is a stretch of samples, said by their level. A model answers one frame a word, and how many.

SOUND = Waveform()
WORDS, LEVELS = ("yes", "no", "up"), torch.tensor([-0.5, 0.0, 0.5])
STRETCH = 16


@dataclass(frozen=True)
class Transcript(Task):
    """What is said, word by word: right with at most a share `level` of wrong words."""

    level: float = 0.0

    def answer(self, output: Output) -> Answers:
        said = np.empty(len(output.logits), dtype=object)
        said[:] = heard(output)
        return Answers(said)

    def right(self, answers: Answers, reference) -> np.ndarray:
        return -self.gap(answers, reference) <= self.level

    def gap(self, answers: Answers, reference) -> np.ndarray:
        return np.array([-wrong_words(a, b) for a, b in zip(answers.said, reference, strict=True)], dtype=float)

    def goal(self, reference, wanted=None) -> TranscriptGoal:
        return TranscriptGoal(tuple(reference), None if wanted is None else tuple(wanted), self)

    def wanted(self, reference, classes, rng) -> np.ndarray:
        """Every word another one."""
        found = np.empty(len(reference), dtype=object)
        found[:] = [" ".join(WORDS[(WORDS.index(w) + 1) % 3] for w in text.split()) for text in reference]
        return found


@dataclass(frozen=True)
class TranscriptGoal:
    """Another transcript than the reference, or the one that is wanted."""

    reference: Sequence[str]
    wanted_: Sequence[str] | None
    task: Transcript

    @property
    def targeted(self) -> bool:
        return self.wanted_ is not None

    def achieved(self, output):
        answers = self.task.answer(as_output(output))
        hit = self.task.right(answers, self.wanted_ if self.targeted else self.reference)
        return torch.from_numpy(hit if self.targeted else ~hit)

    def loss(self, objective, output):
        """The objective over the frames, each of which is a class."""
        frames, lengths = as_output(output)[:2]
        losses = []
        for row, text in enumerate(self.wanted_ or self.reference):
            labels = torch.tensor([WORDS.index(word) for word in text.split()])
            goal = carom.Goal(labels, labels if self.targeted else None)
            losses.append(objective(frames[row, : lengths[row]], goal).mean())
        return torch.stack(losses)

    def take(self, rows):
        some = [[texts[i] for i in rows.tolist()] if texts else None for texts in (self.reference, self.wanted_)]
        return TranscriptGoal(*some, self.task)

    def repeat(self, copies):
        return TranscriptGoal(list(self.reference) * copies, self.wanted_ and list(self.wanted_) * copies, self.task)

    def to(self, device):
        return self


def heard(output: Output) -> list[str]:
    """Greedy: the best word of every frame within the length."""
    best = output.logits.argmax(2)
    return [" ".join(WORDS[w] for w in row[:length].tolist()) for row, length in zip(best, output.lengths, strict=True)]


def wrong_words(said: str, reference: str) -> float:
    """Word error rate; no word is lost or added here."""
    one, other = said.split(), reference.split()
    assert len(one) == len(other)
    return sum(a != b for a, b in zip(one, other, strict=True)) / len(other)


class Listener(Model):
    """Hears a level `deaf` lower than it is."""

    access = Access.LABEL | Access.SCORE | Access.GRADIENT

    def __init__(self, name: str, deaf: float) -> None:
        super().__init__(name, "audio", "rnn", SOUND, (), f"{name} {deaf}")
        self.deaf = deaf

    def __call__(self, inputs, lengths=None):
        level = inputs.view(len(inputs), -1, STRETCH).mean(2) - self.deaf
        return Output(-20 * (level[:, :, None] - LEVELS).square(), lengths // STRETCH)


@dataclass(frozen=True)
class Louder:
    """Adds the budget to every sample."""

    def __call__(self, problem, batch, rng):
        x = problem.model.space.round(batch.inputs + batch.mask() * problem.threat.eps, batch.inputs)
        success = problem.goal.achieved(problem.model(x, batch.lengths))
        return Result(x, success, Cost(ones(batch), 0 * ones(batch), ones(batch)), 0 * ones(batch))


# A word flips to the next where its level comes above the middle. 0.1 louder moves "no" at 0.2 and, for one who hears
# 0.08 less, at 0.24 only. What lies on the middle itself is misheard before anything is done.
SAID = (
    *(("yes no", (-0.5, 0.0)), ("no up yes", (0.2, 0.5, -0.5)), ("no", (0.24,)), ("up no no", (0.5, 0.2, 0.24))),
    *(("no no", (0.24, 0.24)), ("yes", (-0.45,)), ("no yes no", (0.2, -0.5, 0.1)), ("no", (0.26,)), ("up", (0.3,))),
)


def sounds(level=0.0) -> Dataset:
    """As many samples as words take, padded to the longest; one is misheard by both, one by who hears less."""
    longest = max(len(levels) for _, levels in SAID)
    stored = torch.zeros(len(SAID), longest * STRETCH)
    for row, (_, levels) in zip(stored, SAID, strict=True):
        row[: len(levels) * STRETCH] = torch.tensor(levels).repeat_interleave(STRETCH)
    lengths = torch.tensor([len(levels) * STRETCH for _, levels in SAID])
    return Dataset(
        "said",
        "audio",
        SOUND,
        SOUND.encode(stored),
        torch.zeros(len(SAID)).long(),
        [f"e{i}" for i in range(len(SAID))],
        (),
        lengths,
        task=Transcript(level),
        references=[text for text, _ in SAID],
    )


SOURCE, TARGET = Listener("near", 0.0), Listener("far", 0.08)


def test_a_transfer_of_transcripts(tmp_path):
    """Right when clean are, of the source, all but 7; of the target all but 8, where "up" is heard as "no"."""
    outcome = carom.transfer(
        [SOURCE], [SOURCE, TARGET], [Louder()], sounds(), threat="linf", eps=0.1, store=tmp_path / "store"
    )
    assert not outcome.failures
    row = cell(outcome, "far")
    assert row["n"] == 7
    assert row["transfer"] == near(3 / 7)  # 2 3 4: those with a word at 0.24
    assert (row["transfer_low"], row["transfer_high"]) == wilson(3, 7)
    assert row["white_box"] == near(5 / 8)  # 1 2 3 4 6
    assert row["conditional"] == near(3 / 5)
    assert row["same_mistake"] == near(2 / 3)  # in 3 the source hears two words wrong, the target one
    assert row["margin_drop"] == near((1 / 1 + 1 / 3 + 2 / 2) / 7)  # of the word error rate
    assert row["control"] < 0.1
    assert row["excess"] == near((3 / 7 - row["control"]) / (1 - row["control"]))
    assert cell(outcome, "near")["transfer"] == near(5 / 8)
    assert [m["clean_accuracy"] for m in outcome.models()] == [near(8 / 9), near(8 / 9)]
    shown = {e.id: e for e in choose_examples(outcome, 9)}
    three = shown["e3"]
    assert (three.label, three.source_says, three.target_says) == ("up no no", "up up up", "up no up")
    assert {i: e.outcome for i, e in shown.items() if i in ("e1", "e2", "e5")} == {
        **{"e1": "source only", "e2": "transferred", "e5": "failed"},
    }
    page = outcome.report(tmp_path / "report.html").read_text()
    assert "no up yes" in page
    assert "0 classes" not in page


def test_some_wrong_words_may_be_allowed(tmp_path):
    """With a third of them 3 no longer counts on the target, nor 1 and 6 on the source; and 7 and 8 stay wrong."""
    outcome = carom.transfer([SOURCE], [TARGET], [Louder()], sounds(0.34), threat="linf", eps=0.1, store=tmp_path)
    row = cell(outcome, "far")
    assert row["n"] == 7
    assert row["transfer"] == near(2 / 7)  # 2 4
    assert row["white_box"] == near(3 / 8)  # 2 3 4


def test_transcripts_can_be_aimed_at(tmp_path):
    """Every word the next one: "no" becomes "up" where that is all that was said, and "up" never "yes"."""
    outcome = carom.transfer(
        [SOURCE], [SOURCE, TARGET], [Louder()], sounds(), threat="linf", eps=0.1, targeted=True, store=tmp_path
    )
    assert cell(outcome, "near")["targeted"] == near(2 / 8)  # 2 and 4, of nothing but "no"
    assert cell(outcome, "far")["targeted"] == near(2 / 7)
    assert cell(outcome, "far")["targeted_control"] == near(0)


@pytest.mark.parametrize("attack", ["fgsm", "pgd?steps=8", "apgd?steps=4", "square?queries=200"])
def test_attacks_that_ask_for_the_goal_alone_take_any_task(attack, tmp_path):
    """They climb what the goal makes of their loss, and find what Louder finds, and "up" at 0.3, which falls to "no".
    What they say of their success is what the source's answers to the stored sounds say."""
    data = sounds()
    outcome = carom.transfer([SOURCE], [SOURCE, TARGET], [attack], data, threat="linf", eps=0.1, store=tmp_path)
    assert not outcome.failures
    (craft,) = outcome.plan.crafts(data)
    success = outcome.store.rows(craft.key)["success"].to_pylist()
    judged = outcome.stored.verdict([outcome.plan.judges(craft, SOURCE)[0]])
    assert success == judged.fooled.tolist()
    assert cell(outcome, "near")["white_box"] == near(6 / 8)


def test_transcripts_crafted_before_are_measured_again(tmp_path):
    crafted = carom.attack(SOURCE, sounds(), Louder(), threat="linf", eps=0.1)
    assert crafted.success.tolist() == [False, True, True, True, True, False, True, True, False]
    crafted.save(tmp_path / "set.parquet")
    for found, data in ((crafted, None), (carom.load_set(tmp_path / "set.parquet"), sounds())):
        outcome = carom.replay(found, [SOURCE, TARGET], source=SOURCE, data=data, store=tmp_path / "store")
        assert not outcome.failures
        assert cell(outcome, "far")["transfer"] == near(3 / 7)
        assert cell(outcome, "far")["white_box"] == near(5 / 8)


def test_numbers_that_are_not_finite_are_named_and_silence_past_the_end_is_none(tmp_path):
    class Broken(Listener):
        """Frames past the end are no numbers; with `everywhere`, none is."""

        everywhere = False

        def __call__(self, inputs, lengths=None):
            logits, ends, *_ = super().__call__(inputs, lengths)
            past = torch.arange(logits.shape[1]) >= (0 if self.everywhere else ends[:, None])
            return Output(logits.masked_fill(past.expand(logits.shape[:2])[:, :, None], torch.nan), ends)

    asked = {"threat": "linf", "eps": 0.1, "store": tmp_path}
    fine = carom.transfer([SOURCE], [Broken("broken", 0.08)], [Louder()], sounds(), **asked)
    assert cell(fine, "broken")["transfer"] == near(3 / 7)
    Broken.everywhere = True
    with pytest.raises(CaromError, match="model other answers e0 with a number that is not finite"):
        carom.transfer([SOURCE], [Broken("other", 0.08)], [Louder()], sounds(), **asked)


def test_shards_and_batches_change_nothing_of_transcripts(tmp_path, monkeypatch):
    def run(name, batch):
        asked = {"threat": "linf", "eps": 0.1, "batch": batch, "store": tmp_path / name}
        rows = carom.transfer([SOURCE], [SOURCE, TARGET], [Louder()], sounds(), **asked).rows()
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]

    whole = run("whole", 64)
    assert run("batches", 2) == whole
    monkeypatch.setattr(module, "SHARD", 4)
    assert run("shards", 3) == whole


@pytest.mark.parametrize("attack", ["auto?steps=2&queries=4", "apgd-t?steps=2"])
def test_attacks_that_need_classes_refuse_transcripts(attack, tmp_path):
    with pytest.raises(CaromError, match="aims at classes"):
        carom.transfer([SOURCE], [SOURCE], [attack], sounds(), threat="linf", eps=0.1, store=tmp_path)


# A threshold on one number: a linear model of four pixels.

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
SIDES = ("below", "above")


class Meter(Model):
    """One number: the weighted sum of the pixels. `wide` answers it twice."""

    access = Access.LABEL | Access.SCORE | Access.GRADIENT

    def __init__(self, name: str, weights: Sequence[float], wide: bool = False) -> None:
        super().__init__(name, "image", "linear", PIXELS, SIDES, f"{name} {weights}")
        self.weights, self.wide = torch.tensor(weights), wide

    def __call__(self, inputs, lengths=None):
        number = (inputs * self.weights).sum(1, keepdim=True)
        return Output(number.repeat(1, 2) if self.wide else number)


def test_a_transfer_over_a_threshold(tmp_path):
    """Means of four pixels k/20 for k = 1 to 19, against one half: within 0.15 fall those nearer than 0.15 to it."""
    values = (torch.arange(1, 20) * 255 / 20).round()  # 10: 128, which lies above one half
    labels = (torch.arange(1, 20) > 10).long()
    stored = values.to(torch.uint8)[:, None].expand(-1, 4).contiguous()
    data = Dataset(
        *("means", "image", PIXELS, stored, labels, [f"e{k}" for k in range(19)], SIDES), task=Threshold(0.5)
    )
    source, target = Meter("mean", [0.25] * 4), Meter("steep", [0.5, 0.5, -0.125, 0.125])
    info = told("fgsm", Access.GRADIENT, "linf", None)
    plan = Plan(
        modality="image",
        sources=(source,),
        targets=(source, target),
        attacks=(AttackChoice(info, {}, carom.get_attack("fgsm", "image")),),
        data=data,
        threat=Linf(0.15),
        threat_label="linf 0.15",
    )
    outcome = evaluate(plan, Store(tmp_path))
    assert not outcome.failures
    row = cell(outcome, "mean")
    assert row["n"] == 18
    moved = 38 / 255  # the whole steps in 0.15
    above = (values + 38 * (1 - 2 * labels)) / 255 > 0.5
    fell = (above != labels) & (torch.arange(1, 20) != 10)
    assert 0 < fell.sum() < 18
    assert row["transfer"] == near(fell.sum().item() / 18)
    assert row["margin_drop"] == pytest.approx(moved, abs=1e-6)  # in the number's own unit
    assert row["same_mistake"] == 1
    rows = outcome.store.rows(plan.judges(next(iter(plan.crafts(data))), source)[0].key)
    assert rows["answer"].to_pylist()[0] == pytest.approx((13 + 38) / 255)
    two = Meter("two", [0.25] * 4, wide=True)
    turned = Meter("turned", [0.25] * 4)
    turned.classes = SIDES[::-1]
    with pytest.raises(CaromError, match="the same, in the same order"):  # else above would count as below
        replace(plan, targets=(turned,))
    with pytest.raises(CaromError, match=r"answered with shape \[\d+, 2\] for \d+ examples; expected \[\d+, 1\]"):
        evaluate(replace(plan, targets=(two,)), Store(tmp_path))


# A model that rejects. An input is whose it is and what was done to it, as in test_transfer.

TOY = Box("toy", 0.0, 255.0, 1.0, torch.uint8)
CLEAN, ATTACKED, CONTROL, SWAPPED = range(4)
LABELS = torch.arange(10) % 2
IDS = [f"e{i}" for i in range(10)]


@dataclass(frozen=True)
class Marks(Threat):
    """Allows everything and marks what it makes."""

    name: str = "marks"

    def allows(self, x, x0):
        return torch.ones(len(x), dtype=torch.bool)

    def control(self, batch, rng, like):
        return marked(batch, CONTROL)

    def swap(self, batch, rng, other, other0):
        return marked(batch, SWAPPED)


@dataclass(frozen=True)
class Mark:
    """Looks at logits alone, as an attack that knows nothing of rejection."""

    def __call__(self, problem, batch, rng):
        x = marked(batch, ATTACKED)
        success = problem.goal.achieved(problem.model(x).logits)
        return Result(x, success, Cost(ones(batch), ones(batch), ones(batch)), 0 * ones(batch))


def marked(batch: Batch, what: int) -> torch.Tensor:
    x = batch.inputs.clone()
    x[:, 1] = what
    return x


class Scripted(Model):
    """Wrong and rejecting where it is told to be: {what was done: examples}."""

    def __init__(self, name, wrong, rejected=None) -> None:
        super().__init__(name, "image", "other", TOY, ("a", "b"), name)
        self.wrong, self.rejected, self.rejects = wrong, rejected, rejected is not None

    def listed(self, inputs, table):
        pairs = inputs[:, :2].long().tolist()
        return torch.tensor([who in table.get(what, ()) for who, what in pairs])

    def __call__(self, inputs, lengths=None):
        said = LABELS[inputs[:, 0].long()] ^ self.listed(inputs, self.wrong).long()
        rejected = None if self.rejected is None else self.listed(inputs, self.rejected)
        return Output(nn.functional.one_hot(said, 2).float(), rejected=rejected)


OPEN = Scripted("open", {CLEAN: [9], ATTACKED: range(7)})
GUARD = Scripted(
    "guard",
    {CLEAN: [8], ATTACKED: [0, 1, 2, 3, 9], CONTROL: [4, 5], SWAPPED: [2, 3]},
    {CLEAN: [7], ATTACKED: [0, 1, 5], CONTROL: [5, 6], SWAPPED: [3]},
)


def guarded(**changes) -> Plan:
    stored = torch.zeros(10, 2, dtype=torch.uint8)
    stored[:, 0] = torch.arange(10)
    info = told("mark", Access.SCORE, "marks", Mark)
    base = Plan(
        modality="image",
        sources=(OPEN, GUARD),
        targets=(OPEN, GUARD),
        attacks=(AttackChoice(info, {}, Mark()),),
        data=Dataset("toy", "image", TOY, stored, LABELS, IDS, ("a", "b")),
        threat=Marks(),
        threat_label="marks",
    )
    return replace(base, **changes)


def test_what_is_rejected_fools_nobody_and_a_false_rejection_is_no_right_answer(tmp_path):
    """The guard is right when clean on all but 8, which it misjudges, and 7, which it rejects. J = {0..6}."""
    outcome = evaluate(guarded(), Store(tmp_path))
    assert not outcome.failures
    assert [m["clean_accuracy"] for m in outcome.models()] == [near(0.9), near(0.8)]
    rows = {(row["source"], row["target"]): row for row in outcome.rows()}
    row = rows["open", "guard"]
    assert row["n"] == 7
    assert row["transfer"] == near(2 / 7)  # 2 3: it rejects 0 and 1
    assert row["control"] == near(1 / 7)  # 4: it rejects 5, and 6, which it would have got right
    assert row["excess"] == near((2 / 7 - 1 / 7) / (1 - 1 / 7))
    assert row["conditional"] == near(2 / 7)
    assert row["same_mistake"] == 1
    assert row["swapped"] == near(1 / 7)
    own = rows["guard", "guard"]
    assert own["white_box_n"] == 8
    assert own["white_box"] == near(3 / 8)  # 2 3 9
    assert own["white_box_control"] == near(1 / 8)
    back = rows["guard", "open"]
    assert back["conditional"] == near(2 / 2)  # 2 3 of J fool the guard
    assert back["same_mistake"] == near(2 / 7)


def test_an_attack_has_no_success_where_its_source_rejects(tmp_path):
    outcome = evaluate(guarded(sources=(GUARD,)), Store(tmp_path))
    (craft,) = outcome.plan.crafts(outcome.plan.data)
    success = outcome.store.rows(craft.key)["success"].to_pylist()
    assert [i for i, hit in enumerate(success) if hit] == [2, 3, 9]
    (curve,) = outcome.queries_curve()
    assert curve["n"] == 8
    assert curve["points"][-1]["success"] == near(3 / 8)


def test_only_models_that_reject_have_the_column(tmp_path):
    plan = guarded()
    outcome = evaluate(plan, Store(tmp_path))
    craft = next(iter(plan.crafts(plan.data)))
    names = {m.name: outcome.store.rows(plan.judges(craft, m)[0].key).column_names for m in (OPEN, GUARD)}
    assert names == {"open": ["id", "answer", "margin"], "guard": ["id", "answer", "margin", "rejected"]}


def test_examples_say_what_was_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "get_modality", lambda name: SimpleNamespace(panels=lambda *given: ()))
    shown = {e.id: e for e in choose_examples(evaluate(guarded(sources=(OPEN,)), Store(tmp_path)), 9)}
    assert [shown[f"e{i}"].target_says for i in (0, 2, 5)] == ["rejected", "b", "rejected"]
    outcomes = {i: shown[f"e{i}"].outcome for i in range(7)}
    assert outcomes == {i: "transferred" if i in (2, 3) else "source only" for i in range(7)}


def test_a_model_that_rejects_says_so_and_is_no_member(tmp_path):
    liar = Scripted("liar", {}, {})
    liar.rejects = False
    with pytest.raises(CaromError, match="give its class rejects = True"):
        evaluate(guarded(sources=(OPEN,), targets=(liar,)), Store(tmp_path))
    with pytest.raises(CaromError, match="guard may reject an input"):
        Ensemble([OPEN, GUARD])
