"""The evaluator on a toy whose answers are written down: every measure is worked out by hand beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from stores import Counting
from toys import choice

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access
from carom.common.core.data import Dataset
from carom.common.core.problem import Cost, Result, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf, Threat
from carom.common.measure.stats import wilson
from carom.common.models.functions import FunctionModel
from carom.common.study import plan as module
from carom.common.study.evaluate import evaluate
from carom.common.study.plan import Plan
from carom.common.work.store import Store
from carom.common.work.units import Craft

# An input is four small integers: whose it is, what was done to it (CLEAN ...), and a coin that each control draws.
SPACE = Box("toy", 0.0, 255.0, 1.0, torch.uint8)
CLEAN, ATTACKED, CONTROL, SWAPPED = range(4)
CLASSES = ("a", "b", "c")
LABELS = np.arange(10) % 3
IDS = [f"e{i}" for i in range(10)]


@dataclass(frozen=True)
class Scripted(Threat):
    """A threat that allows everything and marks what it makes."""

    name: str = "scripted"

    def allows(self, x, x0):
        return torch.ones(len(x), dtype=torch.bool)

    def control(self, batch, rng, like):
        x = batch.inputs.clone()
        x[:, 1], x[:, 2] = CONTROL, rng.integers(2)
        return x

    def swap(self, batch, rng, other, other0):
        x = batch.inputs.clone()
        x[:, 1] = SWAPPED
        return x


@dataclass(frozen=True)
class Mark:
    """Marks inputs as attacked; says what it is told to say of them."""

    bad: tuple[int, ...] = ()
    fails_on: str = ""

    def __call__(self, problem, batch, rng):
        if problem.model.name == self.fails_on and os.environ.get("REPAIRED") != self.fails_on:
            raise RuntimeError("no such operator")
        x = batch.inputs.clone()
        x[:, 1] = ATTACKED
        n = torch.ones(len(batch), dtype=torch.long)
        status = torch.tensor([Status.BAD_GRADIENT if int(i[1:]) in self.bad else Status.DONE for i in batch.ids])
        success = problem.goal.achieved(problem.model(x).logits)
        return Result(x, success, Cost(4 * n, 3 * n, 2 * n), status)


def answers(wrong):
    """{example: how far its answer is from the label} -> int[10]"""
    return (LABELS + np.array([wrong.get(i, 0) for i in range(10)])) % 3


def model(name, clean=(), attacked=(), swapped=(), control=(), digest=None, aims=None):
    """`clean`, `swapped`: examples answered wrongly. `attacked`: {example: shift of the answer}. `control`: examples
    that the draws with coin 1 flip. `aims`: answers to attacked inputs, instead."""
    table = np.stack(
        [answers(dict.fromkeys(clean, 1)), answers(dict(attacked)), answers({}), answers(dict.fromkeys(swapped, 1))]
    )
    if aims is not None:
        table[ATTACKED] = aims

    def logits(x):
        who, what = np.minimum(x[:, 0], 9).astype(int), np.minimum(x[:, 1], SWAPPED).astype(int)
        coin = x[:, 2].astype(int)
        said = table[what, who]
        flipped = (what == CONTROL) & (coin == 1) & np.isin(who, list(control))
        said = np.where(flipped, (said + 1) % 3, said)
        return 2.0 * np.eye(3, dtype=np.float32)[said]

    return FunctionModel(
        logits,
        name=name,
        modality="image",
        family="other",
        space=SPACE,
        classes=CLASSES,
        digest=digest or name,
        probabilities=False,
    )


def data():
    stored = torch.zeros(10, 4, dtype=torch.uint8)
    stored[:, 0] = torch.arange(10)
    return Dataset("toy", "image", SPACE, stored, torch.from_numpy(LABELS), IDS, CLASSES)


def chosen(attack, name="mark"):
    return choice(name, attack, "scripted")


SOURCE = model("source", clean=[9], attacked=dict.fromkeys([0, 1, 2, 4, 5, 6, 9], 1), control=[4], swapped=[0, 1, 2])
TARGET = model(
    "target", clean=[8], attacked={0: 1, 1: 2, 2: 1, 3: 1, 7: 2, 8: 1, 9: 1}, control=[0, 3, 8], swapped=[0, 5, 9]
)


def plan(**changes):
    base = {
        "modality": "image",
        "sources": (SOURCE,),
        "targets": (SOURCE, TARGET),
        "attacks": (chosen(Mark()),),
        "data": data(),
        "threat": Scripted(),
        "threat_label": "scripted",
        "controls": 5,
    }
    return Plan(**{**base, **changes})


def coins(seed=0, controls=5):
    """int[controls, 10]: what each draw of the control says of each example."""
    rng = Rng.of(seed, IDS)
    return np.stack([rng.fold("control", k).integers(2).numpy() for k in range(controls)])


def cell(outcome, target):
    (row,) = [r for r in outcome.rows() if r["target"] == target]
    return row


def near(value):
    return pytest.approx(value, abs=1e-12)


@pytest.fixture
def outcome(tmp_path):
    return evaluate(plan(), Store(tmp_path))


def test_every_measure_between_two_models(outcome):
    """J = {0..7}: the source is wrong on 9, the target on 8, before anything is done."""
    row = cell(outcome, "target")
    heads = coins().mean(0)  # how often each example's coin shows 1
    assert row["n"] == 8
    transfer = 5 / 8  # 0 1 2 3 7
    control = (heads[0] + heads[3]) / 8
    own, own_control = 6 / 8, heads[4] / 8  # the source itself, over the same J: 0 1 2 4 5 6
    assert 0 < control < 0.25
    assert row["transfer"] == near(transfer)
    assert (row["transfer_low"], row["transfer_high"]) == wilson(5, 8)
    assert row["control"] == near(control)
    excess = (transfer - control) / (1 - control)
    assert row["excess"] == near(excess)
    assert row["relative"] == near(excess / ((own - own_control) / (1 - own_control)))
    assert row["conditional"] == near(3 / 6)  # of 0 1 2 4 5 6, which fool the source: 0 1 2
    assert row["conditional_n"] == 6
    assert row["same_mistake"] == near(2 / 5)  # of 0 1 2 3 7: on 0 and 2 both say the same
    assert row["swapped"] == near(2 / 8)  # 0 5
    assert row["margin_drop"] == near(5 * 4 / 8)  # from 2 to -2 wherever it is fooled
    assert row["white_box"] == near(6 / 9)  # over all that the source gets right
    assert row["white_box_control"] == near(heads[4] / 9)
    assert row["targeted"] is None
    assert row["targeted_control"] is None
    assert (row["forward"], row["backward"], row["queries"]) == (4, 3, 2)
    assert row["seconds"] >= 0
    assert (row["source_family"], row["attack"], row["threat"], row["seed"]) == ("other", "mark", "scripted", 0)


def test_the_diagonal(outcome):
    row = cell(outcome, "source")
    assert row["n"] == 9
    assert row["transfer"] == row["white_box"] == near(6 / 9)
    assert row["control"] == row["white_box_control"]
    assert row["relative"] == near(1)
    assert row["same_mistake"] == near(1)
    assert row["conditional"] == near(1)
    assert row["swapped"] == near(3 / 9)


def test_intervals_hold_their_estimates(outcome):
    for row in outcome.rows():
        for name in ("transfer", "control", "excess", "relative"):
            if row[f"{name}_low"] is not None:
                assert row[f"{name}_low"] <= row[name] + 1e-9
                assert row[name] <= row[f"{name}_high"] + 1e-9
    # On the diagonal R is 1 in every resample in which it is defined: its interval has no width.
    diagonal = cell(outcome, "source")
    assert (diagonal["relative_low"], diagonal["relative_high"]) == (near(1), near(1))


def test_models_and_matrix(outcome):
    source, target = outcome.models()
    assert (source["name"], source["role"], source["clean_accuracy"], source["n"]) == ("source", "both", 0.9, 10)
    assert (target["role"], target["clean_accuracy"]) == ("target", 0.9)
    assert (source["clean_low"], source["clean_high"]) == wilson(9, 10)
    assert outcome.matrix("transfer") == {"source": {"source": 6 / 9, "target": 5 / 8}}
    assert outcome.cells.num_rows == len(outcome.to_pandas()) == 2
    assert outcome.summary()["cells"] == outcome.rows()


def test_success_against_queries_is_over_what_the_source_gets_right(outcome):
    """Each example cost 2 queries; of the nine that are right when clean, six are fooled."""
    (curve,) = outcome.queries_curve()
    assert (curve["source"], curve["attack"], curve["seed"], curve["n"]) == ("source", "mark", 0, 9)
    low, high = wilson(6, 9)
    assert curve["points"] == [
        {"queries": 1, "success": 0.0, "low": 0.0, "high": wilson(0, 9)[1]},
        {"queries": 2, "success": 6 / 9, "low": low, "high": high},
    ]
    (short,) = outcome.queries_curve([1])
    assert [point["queries"] for point in short["points"]] == [1]
    assert outcome.summary()["queries"] == [curve]


def test_attacks_that_pay_no_queries_have_no_curve(tmp_path):
    @dataclass(frozen=True)
    class Free(Mark):
        def __call__(self, problem, batch, rng):
            result = super().__call__(problem, batch, rng)
            return replace(result, cost=replace(result.cost, queries=0 * result.cost.queries))

    outcome = evaluate(plan(attacks=(chosen(Free()),)), Store(tmp_path))
    assert outcome.rows()
    assert outcome.queries_curve() == []


def test_several_attacks_and_seeds_are_told_apart(tmp_path):
    outcome = evaluate(plan(attacks=(chosen(Mark()), chosen(Mark((1,)), "again")), seeds=(0, 5)), Store(tmp_path))
    assert len(outcome.rows()) == 2 * 2 * 2
    assert set(outcome.matrix()) == {f"source / {a} / {s}" for a in ("mark", "again") for s in (0, 5)}
    assert cell_of(outcome, "mark", 0)["control"] == near((coins(0).mean(0)[[0, 3]]).sum() / 8)
    assert cell_of(outcome, "mark", 5)["control"] == near((coins(5).mean(0)[[0, 3]]).sum() / 8)


def cell_of(outcome, attack, seed):
    (row,) = [r for r in outcome.rows() if (r["target"], r["attack"], r["seed"]) == ("target", attack, seed)]
    return row


def test_targeted_hits_have_their_own_control(tmp_path):
    goals = Craft(SOURCE, chosen(Mark()), Scripted(), data(), 0, True).targets()
    aims = answers(dict.fromkeys([3, 7], 1))
    aims[[0, 1, 2, 8]] = goals[[0, 1, 2, 8]]
    aims[[3, 7]] = 3 - LABELS[[3, 7]] - goals[[3, 7]]  # wrong, but not as wanted
    target = model("target", clean=[8], aims=aims, control=[0, 3, 4])
    row = cell(evaluate(plan(targets=(SOURCE, target), targeted=True), Store(tmp_path)), "target")
    assert row["n"] == 8
    assert row["transfer"] == near(5 / 8)
    assert row["targeted"] == near(3 / 8)
    hit = goals == (LABELS + 1) % 3  # where the control's mistake is the wanted one
    assert row["targeted_control"] == near(sum(coins().mean(0)[i] for i in (0, 3, 4) if hit[i]) / 8)


def test_what_is_not_defined_is_none(tmp_path):
    lost = model("lost", clean=range(10))
    row = cell(evaluate(plan(targets=(lost,)), Store(tmp_path)), "lost")
    assert row["n"] == row["conditional_n"] == 0
    for name in ("transfer", "transfer_low", "control", "excess", "relative", "conditional", "same_mistake", "swapped"):
        assert row[name] is None, name
    assert row["excess_low"] is row["excess_high"] is row["relative_low"] is None
    assert "only 0 examples are right on both models" in row["warnings"]


def test_excess_is_not_defined_where_the_control_fools_all(tmp_path):
    def logits(x):
        return 2.0 * np.eye(3, dtype=np.float32)[(LABELS[x[:, 0].astype(int)] + (x[:, 1] == CONTROL)) % 3]

    brittle = model("brittle")
    brittle.function = logits
    row = cell(evaluate(plan(targets=(brittle,)), Store(tmp_path)), "brittle")
    assert row["control"] == 1
    assert row["transfer"] == 0
    assert row["excess"] is row["excess_low"] is row["relative"] is None


def test_relative_transfer_is_not_defined_where_the_source_is_hardly_fooled(tmp_path):
    solid = model("source", attacked={})
    row = cell(evaluate(plan(sources=(solid,), targets=(solid, TARGET)), Store(tmp_path)), "target")
    assert row["white_box"] == 0
    assert row["excess"] > 0
    assert row["relative"] is None
    assert row["conditional"] is None
    assert row["same_mistake"] == 0


def test_excess_may_be_negative(tmp_path):
    target = model("target", attacked={}, control=range(10))
    row = cell(evaluate(plan(targets=(target,)), Store(tmp_path)), "target")
    assert row["transfer"] == 0
    assert row["excess"] == near(-row["control"] / (1 - row["control"]))


def test_warnings(tmp_path):
    weak = evaluate(plan(attacks=(chosen(Mark(bad=(2, 6))),)), Store(tmp_path / "weak"))
    said = cell(weak, "target")["warnings"]
    assert said == [
        "white-box success is only 0.67: low transfer may be the attack's failure",
        "only 8 examples are right on both models",
        "2 examples gave gradients or scores that are not finite and were left unchanged",
    ]
    loud = model("loud", attacked=dict.fromkeys(range(10), 1), control=range(10))
    said = cell(evaluate(plan(sources=(loud,)), Store(tmp_path / "loud")), "target")["warnings"]
    assert any(line.startswith("random perturbations of this budget already fool the source at 0.") for line in said)


def test_in_a_ball_the_control_is_held_to_a_fixed_share(tmp_path):
    """A model that answers wrongly whenever anything changed: nothing that an attack does to it says much."""

    def logits(x):
        moved = (x[:, 1:] != 0).any(1)
        return 2.0 * np.eye(3, dtype=np.float32)[(LABELS[x[:, 0].round().astype(int) % 10] + moved) % 3]

    def nervous(name):
        found = model(name)
        found.function = logits
        return found

    @dataclass(frozen=True)
    class Up:
        def __call__(self, problem, batch, rng):
            x = batch.inputs.clone()
            x[:, 1:] += problem.threat.eps
            n = torch.ones(len(batch), dtype=torch.long)
            return Result(x, n.bool(), Cost(n, n, n), 0 * n)

    outcome = evaluate(
        plan(sources=(nervous("n"),), targets=(nervous("n"),), attacks=(chosen(Up()),), threat=Linf(1.0)),
        Store(tmp_path),
    )
    (row,) = outcome.rows()
    assert row["transfer"] == 1
    assert row["control"] > 0.3
    assert any("already fool the source" in line for line in row["warnings"])


# Running plans.


def test_nothing_is_computed_twice(tmp_path):
    store = Counting(tmp_path)
    first = evaluate(plan(), store)
    count = len(plan().units())
    assert len(store.keys) == len(set(store.keys)) == count
    again = Counting(tmp_path)
    assert evaluate(plan(), again).rows() == first.rows()
    assert again.keys == []
    more = evaluate(plan(targets=(SOURCE, TARGET, model("third"))), again)
    assert len(again.keys) == 1 + 1 + 5 + 1  # of the third: clean, attacked, controls, swapped
    assert [r for r in more.rows() if r["target"] != "third"] == first.rows()


@pytest.mark.parametrize("at", [0, 1, 2, 5, 11])
def test_an_interrupted_run_goes_on_where_it_stopped(at, tmp_path):
    class Interrupted(Counting):
        def commit(self, *rest, **more):
            if len(self.keys) == at:
                raise KeyboardInterrupt
            super().commit(*rest, **more)

    stopped = Interrupted(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan(), stopped)
    rest = Counting(tmp_path)
    resumed = evaluate(plan(), rest)
    assert len(stopped.keys) == at
    assert len(rest.keys) == len(plan().units()) - at
    whole = evaluate(plan(), Store(tmp_path / "whole"))
    assert strip(resumed) == strip(whole)


def strip(outcome):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in outcome.rows()]


def test_what_is_missing_is_computed_again(tmp_path):
    store = Counting(tmp_path)
    evaluate(plan(), store)
    for key in store.keys[3:6]:
        store.path(key, "parquet").unlink()
    again = Counting(tmp_path)
    evaluate(plan(), again)
    assert again.keys == store.keys[3:6]


BAD = model("bad", attacked={0: 1})


def test_a_failed_unit_is_named_its_dependents_left_out_and_the_rest_done(tmp_path, monkeypatch):
    broken = plan(sources=(BAD, SOURCE), attacks=(chosen(Mark(fails_on="bad")),))
    store = Counting(tmp_path)
    outcome = evaluate(broken, store)
    (failure,) = outcome.failures
    assert failure.what == "mark on bad"
    assert failure.error == "RuntimeError: no such operator"
    assert {row["source"] for row in outcome.rows()} == {"source"}
    assert strip(outcome) == strip(evaluate(plan(sources=(SOURCE, BAD)), Store(tmp_path / "fine")))[:2]
    crafts = [u for u in broken.units() if isinstance(u, Craft)]
    assert [store.has(c.key) for c in crafts] == [False, True]
    assert outcome.summary()["failures"] == [{"what": failure.what, "error": failure.error}]
    # The next run tries again, and computes only what was left out.
    monkeypatch.setenv("REPAIRED", "bad")
    again = Counting(tmp_path)
    repaired = evaluate(broken, again)
    assert not repaired.failures
    assert {row["source"] for row in repaired.rows()} == {"bad", "source"}
    assert len(again.keys) == len(broken.units()) - len(store.keys)


def test_a_failed_craft_takes_no_shared_control_with_it(tmp_path):
    """In a ball the controls belong to no craft: the first source's failure leaves the second's cells whole."""
    wide = plan(sources=(BAD, SOURCE), attacks=(chosen(Mark(fails_on="bad")),), threat=Linf(255.0))
    outcome = evaluate(wide, Store(tmp_path))
    assert len(outcome.failures) == 1
    assert {(row["source"], row["target"]) for row in outcome.rows()} == {("source", "source"), ("source", "target")}


def test_a_target_that_fails_loses_its_own_cells_only(tmp_path):
    def refuse(x):
        raise MemoryError("out of memory")

    dead = model("dead")
    dead.function = refuse
    outcome = evaluate(plan(targets=(dead, TARGET)), Store(tmp_path))
    assert {row["target"] for row in outcome.rows()} == {"target"}
    assert {failure.what.partition(" on ")[0] for failure in outcome.failures} == {"dead"}
    assert cell(outcome, "target")["transfer"] == near(5 / 8)
    assert [m["clean_accuracy"] for m in outcome.models() if m["name"] == "dead"] == [None]


def test_progress_counts_every_unit(tmp_path):
    seen = []
    evaluate(plan(), Store(tmp_path), progress=lambda done, total, what: seen.append((done, total, what)))
    total = len(plan().units())
    assert [done for done, _, _ in seen] == list(range(total + 1))
    assert {t for _, t, _ in seen} == {total}
    assert seen[-1][2] == "done"
    assert any("mark on source" in what for *_, what in seen)
    evaluate(plan(), Store(tmp_path), progress=lambda done, total, what: seen.append((done, total, what)))
    assert seen[total + 1 :] == [(total, total, f"done, {total} of {total} found in the store")]


def test_shards_change_no_rate(tmp_path, monkeypatch):
    whole = strip(evaluate(plan(), Store(tmp_path / "whole")))
    monkeypatch.setattr(module, "SHARD", 4)
    parts = evaluate(plan(), Store(tmp_path / "parts"))
    assert len(plan().shards()) == 3
    assert strip(parts) == whole


def test_a_source_that_is_no_target_is_still_measured_on_itself(tmp_path):
    row = cell(evaluate(plan(targets=(TARGET,)), Store(tmp_path)), "target")
    assert row["white_box"] == near(6 / 9)
    assert row["relative"] is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controls": 0}, "at least one control"),
        ({"threat": object()}, "derive its class from carom.common.core.threats.Threat"),
        ({"modality": "audio"}, "model source is for image, this study is for audio"),
        ({"data": replace(data(), classes=("x", "b", "c"))}, "knows 3 classes"),
        ({"targets": (SOURCE, model("source", digest="other"))}, "two different models are called source"),
        (
            {"attacks": (replace(chosen(Mark()), info=replace(chosen(Mark()).info, needs=Access.GRADIENT)),)},
            "no chosen attack can run on source, which grants label and score",
        ),
        (
            {
                "attacks": (replace(chosen(Mark()), info=replace(chosen(Mark()).info, targeted=False)),),
                "targeted": True,
            },
            "attack mark cannot be aimed at a class",
        ),
    ],
)
def test_plans_that_cannot_be_run_say_why(changes, message):
    with pytest.raises(CaromError, match=message):
        plan(**changes)
