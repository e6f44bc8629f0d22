"""Word substitution beside TextAttack 0.3.11: the same model, candidates, stop words, search and goal, on one thread.

    python -m carom.benchmarks.speed.text --json

Sentences are Rotten Tomatoes, documents IMDB reviews. `ours_seconds` and `peer_seconds` are seconds of processor time
(`time.process_time`, so that what else runs on the machine does not count) for all examples, median of `--repeats`;
`ratio` is theirs over ours. `success` is the share of the examples that the model gets right which are fooled.
`parity` is the share of examples with the same outcome, text and number of queries; it is null where ours searches
otherwise. "similar" keeps MiniLM's cosine with the clean text above a level on both sides; TextAttack compares texts
without what stands before the first and behind the last word, and takes the most similar of several texts that fool.
Ours asks the model about all and judges only what it would take, so queries are left out of parity there; with a query
budget ("judged first") it judges all before it asks, as TextAttack does, and they count. TextAttack runs at its best
settings: its query cache is off (with it, it is slower), its batches are as large as it can fill them, and its model
pads to the longest text of a batch. Both read synonyms from a warm cache.
`forward_share` is the part of our time that the model's own arithmetic takes.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import torch

from carom.common.api import get_attack, load_data, load_model
from carom.common.base.memory import keep_freed_memory
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Budget, Problem, Result, Status
from carom.text.candidates.base import Candidates, options_of
from carom.text.candidates.characters import CharacterEdits
from carom.text.candidates.synonyms import WordNet
from carom.text.constraints import Similar
from carom.text.language import models
from carom.text.models.base import TextModel
from carom.text.sentence import UNKNOWN
from carom.text.textattack.offline import textattack
from carom.text.threats import WordBudget
from carom.text.words import STOP_WORDS

MODELS = ("text-cnn", "text-bilstm", "text-transformer")
RANKINGS = {"greedy-unk": "unk", "greedy-delete": "delete", "pwws": "weighted-saliency", "deepwordbug": "unk"}
Outcome = tuple[str, str, int]
"""How it ended in TextAttack's words, the text, and the queries."""


@dataclass(frozen=True)
class Contest:
    """One attack on one kind of texts; `peer` is the TextAttack search that it is measured against."""

    name: str
    attack: str
    peer: str
    data: str
    examples: int
    exact: bool  # whether outcomes must agree
    similarity: float | None = None  # MiniLM's cosine that edited texts must keep
    queries: int | None = None  # the budget of an example

    @property
    def counts(self) -> bool:
        """Whether both ask the same questions."""
        return self.similarity is None or self.queries is not None

    @property
    def candidates(self) -> Candidates:
        return CharacterEdits() if self.peer == "deepwordbug" else WordNet()


CONTESTS = [
    Contest("greedy-unk sentences", "greedy-unk", "greedy-unk", "builtin:rotten-tomatoes", 200, True),
    Contest("pwws sentences", "pwws", "pwws", "builtin:rotten-tomatoes", 200, True),
    Contest("deepwordbug sentences", "deepwordbug", "deepwordbug", "builtin:rotten-tomatoes", 200, True),
    Contest(
        "similar greedy-delete sentences", "greedy-delete", "greedy-delete", "builtin:rotten-tomatoes", 50, True, 0.7
    ),
    Contest(
        "similar greedy-delete sentences, judged first",
        "greedy-delete",
        "greedy-delete",
        "builtin:rotten-tomatoes",
        50,
        True,
        0.7,
        1_000_000,
    ),
    Contest("fast sentences", "fast", "greedy-unk", "builtin:rotten-tomatoes", 200, False),
    Contest("greedy-unk documents", "greedy-unk", "greedy-unk", "builtin:imdb", 200, True),
    Contest("fast documents", "fast", "greedy-unk", "builtin:imdb", 200, False),
]


def peer_of(contest: Contest, model: TextModel) -> Any:
    """TextAttack's attack on the same model with the same candidates."""
    library = textattack()
    from textattack.constraints.pre_transformation import RepeatModification, StopwordModification
    from textattack.goal_functions import UntargetedClassification
    from textattack.models.wrappers import ModelWrapper
    from textattack.search_methods import GreedyWordSwapWIR
    from textattack.transformations.word_swaps import WordSwap

    class Wrapper(ModelWrapper):
        def __init__(self) -> None:
            self.model = model.module  # type: ignore[attr-defined]

        def __call__(self, texts: Sequence[str]) -> Any:
            with torch.inference_mode():
                return model(list(texts)).logits.softmax(1).clone()

    class Options(WordSwap):
        def _get_replacement_words(self, word: str) -> list[str]:
            return list(options_of(contest.candidates, word))

    # It compares stop words with their case, ours whatever their case.
    stop_words = {form for word in STOP_WORDS for form in (word, word.capitalize(), word.upper())}
    constraints = [RepeatModification(), StopwordModification(stopwords=stop_words)]
    if contest.similarity is not None:
        constraints.append(peer_similarity(contest.similarity))
    return library.Attack(
        UntargetedClassification(Wrapper(), use_cache=False, model_batch_size=256),
        constraints,
        Options(),
        GreedyWordSwapWIR(RANKINGS[contest.peer], unk_token=UNKNOWN),
    )


def peer_similarity(least: float) -> Any:
    """TextAttack's constraint on sentence vectors, with the same MiniLM."""
    from textattack.constraints.semantics.sentence_encoders import SentenceEncoder

    class MiniLm(SentenceEncoder):
        def encode(self, sentences: Sequence[str]) -> Any:
            return models._sentence_vectors(list(sentences))

    return MiniLm(threshold=least, metric="cosine", compare_against_original=True, window_size=None)


def run_peer(peer: Any, model: TextModel, batch: Batch) -> list[Outcome]:
    found = []
    with model.frozen():
        for text, label in zip(batch.inputs, batch.labels.tolist(), strict=True):
            result = peer.attack(text, label)
            outcome = type(result).__name__.removesuffix("AttackResult")
            found.append((outcome, result.perturbed_result.attacked_text.text, result.num_queries))
    return found


def outcomes(result: Result) -> list[Outcome]:
    """Ours, in the same words."""
    rows = zip(
        result.status.tolist(), result.success.tolist(), result.inputs, result.cost.queries.tolist(), strict=True
    )
    return [
        ("Skipped" if status == Status.SKIPPED else "Successful" if fooled else "Failed", text, queries)
        for status, fooled, text, queries in rows
    ]


def success(found: Sequence[Outcome]) -> float:
    tried = [outcome for outcome, _, _ in found if outcome != "Skipped"]
    return tried.count("Successful") / max(1, len(tried))


PEERS: dict[tuple[Any, ...], tuple[list[Outcome], float]] = {}
"""What TextAttack found and how long it took, for contests that share it."""


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Neither side pays for walking through what the libraries of both keep in memory."""
    times = []
    gc.collect()
    gc.freeze()
    for _ in range(repeats):
        gc.collect()
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    gc.unfreeze()
    return statistics.median(times)


def compare(contest: Contest, name: str, repeats: int) -> dict[str, Any]:
    """One row: outcomes first, which also warms both up, then the times."""
    model = load_model(f"zoo:{name}")
    assert isinstance(model, TextModel)
    batch = load_data(contest.data, limit=contest.examples).batch()
    attack = get_attack(contest.attack, "text")
    constraints = () if contest.similarity is None else (Similar(contest.similarity),)
    threat = WordBudget(1.0, contest.candidates, constraints=constraints)
    problem = Problem(model, Goal(batch.labels), threat, Budget(queries=contest.queries))

    def ours() -> Result:
        models._remembered.cache_clear()  # vectors of earlier runs would be found again
        return attack(problem, batch, Rng.of(0, batch.ids))

    mine = outcomes(ours())
    rival = (name, contest.peer, contest.data, contest.examples, contest.similarity)
    if rival not in PEERS:
        peer = peer_of(contest, model)
        found = run_peer(peer, model, batch)
        PEERS[rival] = found, median_seconds(lambda: run_peer(peer, model, batch), repeats)
    theirs, peer_seconds = PEERS[rival]
    told = 3 if contest.counts else 2
    same = sum(one[:told] == other[:told] for one, other in zip(mine, theirs, strict=True)) / len(batch)
    seconds = median_seconds(ours, repeats)
    return {
        "name": contest.name,
        "model": name,
        "peer": f"textattack 0.3.11 {RANKINGS[contest.peer]}",
        "examples": len(batch),
        "repeats": repeats,
        "ours_seconds": round(seconds, 3),
        "peer_seconds": round(peer_seconds, 3),
        "ratio": round(peer_seconds / seconds, 2),
        "success": round(success(mine), 4),
        "peer_success": round(success(theirs), 4),
        "parity": round(same, 4) if contest.exact else None,
        "forward_share": round(forward_seconds(model, ours) / seconds, 3),
    }


def forward_seconds(model: TextModel, run: Callable[[], Any]) -> float:
    """Processor time inside the model's arithmetic during one run."""
    spent, inside = 0.0, False
    plain = type(model)

    def timed(name: str) -> Any:
        method = getattr(plain, name)

        def call(self: Any, *given: Any) -> Any:
            nonlocal spent, inside
            if inside:
                return method(self, *given)
            began, inside = time.process_time(), True
            try:
                return method(self, *given)
            finally:
                spent, inside = spent + time.process_time() - began, False

        return call

    names = [name for name in ("read", "moved", "_embedding_gradient") if hasattr(plain, name)]
    model.__class__ = type("Timed", (plain,), {name: timed(name) for name in names})
    try:
        run()
    finally:
        model.__class__ = plain
    return spent


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--model", "models", multiple=True, help="Only this model of the zoo (may be repeated).")
@click.option("--contest", "only", multiple=True, help="Only contests whose name begins so (may be repeated).")
@click.option("--examples", type=int, help="How many of each, instead of 200, or 50 where MiniLM judges.")
def main(as_json: bool, repeats: int, models: tuple[str, ...], only: tuple[str, ...], examples: int | None) -> None:
    """Time word substitution beside TextAttack."""
    keep_freed_memory()
    torch.set_num_threads(1)
    chosen = [contest for contest in CONTESTS if not only or contest.name.startswith(tuple(only))]
    if examples is not None:
        chosen = [replace(contest, examples=examples) for contest in chosen]
    rows = []
    for contest in chosen:
        for name in models or MODELS:
            rows.append(compare(contest, name, repeats))
            click.echo(json.dumps(rows[-1]), err=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        from carom.common.cli.tables import print_table

        columns = ("name", "model", "ours_seconds", "peer_seconds", "ratio", "success", "peer_success", "parity")
        print_table((*columns, "forward_share"), rows)


if __name__ == "__main__":
    main()
