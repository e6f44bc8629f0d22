"""Tiny worlds in which every registered attack can run: data, models of each kind of access, budgets.

A `Case` is one attack of one modality, on one of that modality's toy models, within one kind of threat. The models
compute in float64, so that what an attack decides does not hang on the order in which float32 sums are taken.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import tiny_hub
import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from carom.common.attacks.info import AttackChoice, AttackInfo
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.model import Model
from carom.common.core.problem import Attack, Budget, Problem, Result
from carom.common.core.spaces import Box, Space
from carom.common.core.threats import Threat
from carom.common.modality.installed import get_modality, modality_names
from carom.common.modality.registry import list_attacks
from carom.common.models.boosting import boosted
from carom.common.models.ensembles import Ensemble
from carom.common.models.networks import TorchModel
from carom.common.models.trees import TreeEnsemble, TreeModel

CLASSES = ("a", "b", "c")
SMALL = {"queries": 40, "steps": 5, "samples": 3}
"""Parameters that only cost time, where an attack has them."""

PATIENT = {"cw": {"steps": 12, "searches": 6, "rate": 0.1}, "patch": {"steps": 20}, "bsr": {"samples": 10}}
"""Attacks that get nowhere in so few steps, or, with blocks of 3 x 3 pixels all changing places, so few views."""


class Double(nn.Module):
    """A classifier of fixed random features, its last layer solved for; in float64. `dropout` is for attacks that
    forget evaluation mode, `lengths` for inputs that are padded."""

    def __init__(self, features: nn.Module, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(CLASSES))
        self.double()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x.double()
        return self.head(self.dropout(self.features(x) if lengths is None else self.features(x, lengths)))

    def solve(self, batch: Batch) -> Double:
        self.eval()
        with torch.no_grad():
            x = batch.inputs.double()
            hidden = self.features(x, batch.lengths) if isinstance(self.features, Gru) else self.features(x)
            solve(self.head, hidden, batch.labels)
        return self


def solve(head: nn.Linear, hidden: Tensor, labels: Tensor) -> None:
    """Least squares from features float64[N, D] to labels."""
    wanted = 8 * torch.eye(len(CLASSES), dtype=torch.float64)[labels] - 4
    ridge = torch.cat([hidden, torch.ones(len(hidden), 1, dtype=torch.float64)], 1)
    gram = ridge.T @ ridge + 0.1 * torch.eye(ridge.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, ridge.T @ wanted)
    head.weight.copy_(weights[:-1].T)
    head.bias.copy_(weights[-1])


class Gru(nn.Module):
    """Reads sounds in frames; the mean state over what is no padding."""

    FRAME = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(self.FRAME, width, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        states, _ = self.rnn(4 * x.unflatten(1, (-1, self.FRAME)))
        if lengths is None:
            return states.mean(1)
        inside = torch.arange(states.shape[1], device=x.device) * self.FRAME < lengths[:, None]
        return (states * inside[:, :, None]).sum(1) / inside.sum(1, keepdim=True)


class Spectrum(nn.Module):
    """A front end for trees: energies of the waveform in a few bands."""

    def __init__(self, samples: int, bands: int = 12) -> None:
        super().__init__()
        time = torch.arange(samples, dtype=torch.float64)
        angle = 2 * torch.pi * time * torch.arange(1, bands + 1)[:, None] / (2.5 * bands)
        self.register_buffer("waves", torch.cat([angle.cos(), angle.sin()]) / samples**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x.double() @ self.waves.T).unflatten(1, (2, -1)).square().sum(1).add(1e-3).log().float()


@dataclass(frozen=True)
class Victim:
    """What a toy model grants, and which of carom.common.attacks.info.MODELS it stands for."""

    access: Access
    models: tuple[str, ...] = ("any",)
    only: Access | None = None  # what an attack has to need, to be run on it

    def suits(self, info: AttackInfo) -> bool:
        granted = (info.needs & ~Access.EXAMPLES) in self.access and info.models in self.models
        return granted and (self.only is None or self.only in info.needs)


@dataclass(frozen=True)
class World:
    """One modality in miniature."""

    modality: str
    space: Space
    eps: dict[str, float]  # per kind of threat: enough to fool the toy models, too little for noise to
    others: dict[str, tuple[float, ...]]  # further budgets, among them some that are no multiple of a stored step
    none: dict[str, float]  # the budget that allows nothing
    victims: dict[str, Victim]
    draw: Callable[[int, str], Batch]
    build: Callable[[str], Model]

    def threat(self, kind: str, eps: float) -> Threat:
        return get_modality(self.modality).threats[kind](eps)


def torch_model(world: str, module: nn.Module, family: str, space: Space, lengths: bool = False) -> TorchModel:
    return TorchModel(
        module,
        name=f"{world}-{family}",
        modality=world,
        family=family,
        space=space,
        classes=CLASSES,
        takes_lengths=lengths,
    )


def tree_model(world: str, name: str, space: Space, batch: Batch, front_end: nn.Module | None = None) -> TreeModel:
    features = batch.inputs.flatten(1) if front_end is None else front_end(batch.inputs)
    kinds = {
        "tree": DecisionTreeClassifier(max_depth=6, random_state=0),
        "forest": RandomForestClassifier(7, max_depth=5, random_state=0),
        "boosted": GradientBoostingClassifier(n_estimators=20, max_features=0.3, random_state=0),
    }
    grown = kinds[name].fit(features.numpy(), batch.labels.numpy())
    ensemble = boosted(grown) if name == "boosted" else TreeEnsemble.from_sklearn(grown)
    return TreeModel(ensemble, name=name, modality=world, space=space, classes=CLASSES, front_end=front_end)


# Images: 6 x 6 pixels, one bright stripe pattern a class.

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)


def draw_images(n: int, split: str) -> Batch:
    ids = [f"image-{split}-{i}" for i in range(n)]
    rng = Rng.of(1, ids)
    labels = rng.fold("label").integers(3)
    base = Rng.of(2, CLASSES).uniform(1, 6, 6)[labels]
    x = 0.2 + 0.25 * base + 0.3 * rng.fold("noise").uniform(1, 6, 6)
    return Batch(PIXELS.round(x), labels, ids)


class InDouble(nn.Module):
    """A network of carom.vision in float64, its last layer solved for."""

    def __init__(self, body: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.body, self.head = body.double().eval(), body.head
        hidden: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
        with torch.no_grad():
            self(batch.inputs)
            handle.remove()
            solve(self.head, hidden[0], batch.labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.double())


def build_image(name: str) -> Model:
    from carom.vision.models.networks import Normalise, ResNet, ViT

    if name == "ensemble":
        return Ensemble([build_image("mlp"), build_image("conv")])
    train = draw_images(300, "train")
    if name in ("tree", "forest", "boosted"):
        return tree_model("image", name, PIXELS, train)
    torch.manual_seed(0)
    shape, normalise = (1, 6, 6), Normalise((0.5,), (0.2,))
    if name == "conv":
        conv = ResNet(shape, len(CLASSES), normalise, widths=(12, 16))
        return torch_model("image", InDouble(conv, train).train(), "cnn", PIXELS)
    if name == "vit":
        vit = ViT(shape, len(CLASSES), normalise, patch=2, dim=24, depth=2, heads=2)
        return torch_model("image", InDouble(vit, train).train(), "transformer", PIXELS)
    hidden = nn.Linear(36, 32)
    nn.init.normal_(hidden.weight, std=0.5)
    module = Double(nn.Sequential(nn.Flatten(), hidden, nn.Tanh()), 32)
    return torch_model("image", module.solve(train).train(), "mlp", PIXELS)


# Sounds: tones of three pitches in noise, padded with zeros.

SAMPLES = 64


def audio_space() -> Space:
    from carom.audio.space import WAVEFORM

    return WAVEFORM


def draw_sounds(n: int, split: str) -> Batch:
    ids = [f"audio-{split}-{i}" for i in range(n)]
    rng = Rng.of(3, ids)
    labels = rng.fold("label").integers(3)
    lengths = SAMPLES // 2 + 8 * rng.fold("length").integers(SAMPLES // 16 + 1)
    time = torch.arange(SAMPLES)
    pitch = torch.tensor([0.35, 0.9, 1.7])[labels, None] * (1 + 0.05 * rng.fold("pitch").uniform(1))
    phase = 6.28 * rng.fold("phase").uniform(1)
    x = 0.25 * (pitch * time + phase).sin() + 0.05 * rng.fold("noise").normal(SAMPLES)
    return Batch(audio_space().round(x * (time < lengths[:, None])), labels, ids, lengths)


def build_audio(name: str) -> Model:
    if name == "ensemble":
        return Ensemble([build_audio("mlp"), build_audio("gru")])
    train = draw_sounds(300, "train")
    if name in ("forest", "boosted"):
        return tree_model("audio", name, audio_space(), train, Spectrum(SAMPLES))
    torch.manual_seed(0)
    if name == "gru":
        module = Double(Gru(24), 24)
        for parameter in module.features.parameters():
            nn.init.normal_(parameter, std=0.5)
        return torch_model("audio", module.solve(train).train(), "rnn", audio_space(), lengths=True)
    # A quadratic layer hears pitch whatever the phase.
    module = Double(nn.Sequential(Spectrum(SAMPLES), ToDouble(), nn.Linear(12, 32), nn.Tanh()), 32)
    return torch_model("audio", module.solve(train).train(), "mlp", audio_space())


class ToDouble(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


# Texts: a few words that say the class, among others that say nothing.

SAYS = {"a": ("good", "great", "funny"), "b": ("bad", "awful", "dull"), "c": ("car", "ship", "storm")}
OTHERS = ("movie", "story", "plot", "house", "music", "song", "actor", "scene", "city", "the", "of", "and")
MARK = "qqqq"
"""A word without synonyms; alone, the first component of its embedding is not zero."""


class Bag(nn.Module):
    """The mean embedding of a text's words, then a hidden layer; `between` stands where a test may put something."""

    def __init__(self, words: int, dim: int = 12, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim, padding_idx=0)
        self.between = nn.Identity()
        self.hidden = nn.Linear(dim, width)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(width, len(CLASSES))
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(ids)))

    def features(self, ids: Tensor) -> Tensor:
        inside = (ids != 0)[:, :, None]
        mean = (self.between(self.embedding(ids)) * inside).sum(1) / inside.sum(1)
        return self.hidden(mean).tanh()


class Attentive(Bag):
    """The same behind a layer of attention."""

    def __init__(self, words: int, dim: int = 12, width: int = 32) -> None:
        super().__init__(words, dim, width)
        from carom.text.models.transformer import EncoderBlock

        self.block = EncoderBlock(dim, 2, 0.5).double()

    def features(self, ids: Tensor) -> Tensor:
        inside = ids != 0
        read = self.block(self.between(self.embedding(ids)), inside) * inside[:, :, None]
        return self.hidden(read.sum(1) / inside.sum(1, keepdim=True)).tanh()


def draw_texts(n: int, split: str) -> Batch:
    ids = [f"text-{split}-{i}" for i in range(n)]
    rng = Rng.of(4, ids)
    labels = rng.fold("label").integers(3)
    picks = rng.fold("words").integers(10_000, 9).tolist()
    texts = []
    for row, label in zip(picks, labels.tolist(), strict=True):
        words = [OTHERS[p % len(OTHERS)] for p in row]
        for place in (1, 4):
            words[place] = SAYS[CLASSES[label]][row[place] % 3]
        texts.append(" ".join(words).capitalize() + ".")
    return Batch(texts, labels, ids)


def build_text(name: str) -> Model:
    from carom.text.language.tokenizers import WordEncoder
    from carom.text.language.wordnet import synonyms
    from carom.text.models.tokens import TokenModel

    said = [word for words in SAYS.values() for word in words]
    near = {word: [s.lower() for s in synonyms(word)] for word in (*said, *OTHERS)}
    words = sorted({MARK, *near, *(s for options in near.values() for s in options)})
    rng = Rng.of(6, words)
    # Synonyms of a word that says something say something else, weakly or strongly.
    meaning = 0.7 * rng.normal(12)
    for number, label in enumerate(CLASSES):
        for word in SAYS[label]:
            meaning[words.index(word)] += 2.0 * torch.nn.functional.one_hot(torch.tensor(1 + number), 12)
    meaning[:, 0] = 0
    meaning[words.index(MARK), 0] = 0.99
    torch.manual_seed(0)
    net = (Attentive if name == "attention" else Bag)(len(words) + 2)
    with torch.no_grad():
        net.embedding.weight.zero_()[2:] = meaning.double()
        encoder, train = WordEncoder(words), draw_texts(300, "train")
        solve(net.eval().head, net.features(encoder.encode(train.inputs)[0]), train.labels)
    return TokenModel(net.train(), encoder, name="text-mlp", family="mlp", classes=CLASSES, embedding=net.embedding)


@cache
def masked_lm() -> str:
    """A tiny masked language model of random weights over the toy words, on disk."""
    words = ["[PAD]", "[UNK]", "[MASK]", ".", *(word for own in SAYS.values() for word in own), *OTHERS]
    folder = tempfile.mkdtemp(prefix="masked-lm-")
    for part in tiny_hub.masked_lm(words, 64, lower=True):
        part.save_pretrained(folder)
    return f"hf:{folder}"


def rewrites(text: str) -> list[str]:
    """What a user's paraphraser may be: the text with one or two words exchanged."""
    words = text.rstrip(".").split()
    said = [word for own in SAYS.values() for word in own]
    return [" ".join([*words[:1], new, other, *words[3:]]) + "." for new in said for other in said]


RESOURCES: dict[str, Callable[[], str]] = {
    "lm": masked_lm,
    "function": lambda: f"py:{rewrites.__module__}:rewrites",
}
"""What some attacks cannot be built without."""

NEED = {"bert-attack": "lm", "bae": "lm", "clare": "lm", "rewrite": "function"}

GRADIENT = Access.LABEL | Access.SCORE | Access.GRADIENT | Access.FEATURES
MEMBERS = Access.LABEL | Access.SCORE | Access.GRADIENT | Access.MEMBERS
LEAVES = Access.LABEL | Access.SCORE | Access.LEAVES


@cache
def worlds() -> dict[str, World]:
    from carom.text.space import Words

    return {
        "image": World(
            "image",
            PIXELS,
            eps={"linf": 0.1, "l2": 0.5, "l1": 2.5, "l0": 4.0, "patch": 0.12, "spatial": 1.0},
            others={
                "linf": (0.4 / 255, 1.6 / 255, 0.37, 3.0),
                "l2": (0.001, 0.0123, 1.7, 9.0),
                "l1": (0.003, 0.2, 1.1, 60.0),
                "l0": (0.5, 1.0, 2.5, 36.0, 50.0),
                "patch": (0.01, 0.03, 0.5, 1.0, 2.0),
                "spatial": (0.3,),
            },
            none={"linf": 0.0, "l2": 0.0, "l1": 0.0, "l0": 0.0, "patch": 0.0, "spatial": 0.0},
            victims={
                "mlp": Victim(GRADIENT),
                "conv": Victim(GRADIENT, ("layers", "residual", "relu")),
                "vit": Victim(GRADIENT, ("attention",)),
                "ensemble": Victim(MEMBERS, ("members",)),
                "tree": Victim(LEAVES, ("any", "trees")),
                "forest": Victim(LEAVES, ("any", "trees")),
                "boosted": Victim(LEAVES, ("any", "trees")),
            },
            draw=draw_images,
            build=build_image,
        ),
        "audio": World(
            "audio",
            audio_space(),
            eps={"linf": 0.1, "l2": 0.6, "snr": 9.0},
            others={"linf": (0.4 / 32768, 1.6 / 32768, 0.3), "l2": (2e-5, 0.0123, 3.0), "snr": (70.0, 21.7, 3.0)},
            none={"linf": 0.0, "l2": 0.0, "snr": float("inf")},
            victims={
                "mlp": Victim(GRADIENT),
                "gru": Victim(GRADIENT),
                "ensemble": Victim(MEMBERS, ("members",)),
                "forest": Victim(LEAVES),
                "boosted": Victim(LEAVES),
            },
            draw=draw_sounds,
            build=build_audio,
        ),
        "text": World(
            "text",
            Words(),
            eps={"words": 0.35},
            others={"words": (0.01, 0.15, 0.5, 1.0)},
            none={"words": 0.0},
            victims={
                "mlp": Victim(Access.LABEL | Access.SCORE | Access.GRADIENT),
                "attention": Victim(GRADIENT, only=Access.FEATURES),
            },
            draw=draw_texts,
            build=build_text,
        ),
    }


@cache
def built(modality: str, victim: str) -> Model:
    return worlds()[modality].build(victim)


@cache
def drawn(modality: str, n: int) -> Batch:
    return worlds()[modality].draw(n, "test")


@dataclass(frozen=True)
class Case:
    """One attack on one toy model within one kind of threat."""

    world: World
    info: AttackInfo
    kind: str
    victim: str

    def __str__(self) -> str:
        return f"{self.world.modality}-{self.info.name}-{self.kind}-{self.victim}"

    @property
    def grants(self) -> Access:
        return self.world.victims[self.victim].access

    @property
    def climbs(self) -> bool:
        """Whether the attack follows a gradient, of the model or of a forest made smooth, and nothing besides."""
        follows = Access.GRADIENT in self.info.needs and Access.SCORE not in self.info.needs
        return follows or (self.info.name.endswith("leaf-path") and self.info.models == "any")

    @property
    def eps(self) -> float:
        return self.world.eps[self.kind]

    def batch(self, n: int = 24) -> Batch:
        return drawn(self.world.modality, n)

    def model(self, fresh: bool = False) -> Model:
        """The toy model, shared by all tests that leave it alone."""
        return self.world.build(self.victim) if fresh else built(self.world.modality, self.victim)

    def attack(self, **parameters: Any) -> Attack:
        accepted = inspect.signature(self.info.build).parameters
        small = {name: value for name, value in SMALL.items() if name in accepted}
        small |= PATIENT.get(self.info.name, {})
        needed = {name: make() for name, make in RESOURCES.items() if NEED.get(self.info.name) == name}
        given = {name: value for name, value in parameters.items() if name in accepted}
        return self.info.build(**{**small, **needed, **given})

    def threat(self, eps: float | None = None) -> Threat:
        asked = self.world.threat(self.kind, self.eps if eps is None else eps)
        return AttackChoice(self.info, {}, self.attack()).threat(asked)

    def goal(self, batch: Batch, targeted: bool = False) -> Goal:
        if not targeted:
            return Goal(batch.labels)
        shift = Rng.of(9, batch.ids).integers(len(CLASSES) - 1)
        return Goal(batch.labels, (batch.labels + 1 + shift) % len(CLASSES))

    def run(
        self,
        batch: Batch | None = None,
        *,
        eps: float | None = None,
        seed: int = 0,
        model: Model | None = None,
        targeted: bool = False,
        queries: int | None = None,
        examples: int = 16,
        device: str = "cpu",
        **parameters: Any,
    ) -> Result:
        batch = self.batch() if batch is None else batch
        others = self.world.draw(examples, "others") if Access.EXAMPLES in self.info.needs else None
        if others is not None and isinstance(others.inputs, Tensor):
            others = others.to(device)
        goal = self.goal(batch, targeted)
        problem = Problem(model or self.model(), goal, self.threat(eps), Budget(queries), others)
        # The attack's own limit gives way to a larger budget: what binds is the budget, and it is what is tested.
        asks = max(SMALL["queries"], queries or 0)
        return self.attack(**{"queries": asks, **parameters})(
            problem, batch, Rng.of(seed, batch.ids, batch.labels.device)
        )

    def stored(self, result: Result) -> Any:
        """What is saved of the adversarial inputs: comparable, and indexable by example."""
        stored = self.world.space.encode(result.inputs)
        return stored.flatten(1).tolist() if isinstance(stored, Tensor) else list(stored)

    def answers(self, inputs: Any, batch: Batch) -> Tensor:
        return self.model().predict(Batch(inputs, batch.labels, batch.ids, batch.lengths)).argmax(1)


def registered() -> tuple[list[tuple[str, AttackInfo]], dict[str, Exception]]:
    """Every attack that can be listed, and why the attacks of some modality cannot."""
    found, broken = [], {}
    for name in modality_names():
        try:
            found += list_attacks(name)
        except Exception as error:
            broken[name] = error
    return found, broken


@cache
def cases() -> list[Case]:
    found, _ = registered()
    return [
        Case(world, info, kind, victim)
        for name, info in found
        if (world := worlds().get(name)) is not None
        for kind in info.threats
        if kind in world.eps
        for victim, stands in world.victims.items()
        if stands.suits(info)
    ]


CHOICES: dict[str, Callable[[Case], bool]] = {
    "case": lambda case: True,
    "device_case": lambda case: True,
    "torch_case": lambda case: Access.GRADIENT in case.grants,
    "gradient_case": lambda case: case.climbs,
    "own_gradient_case": lambda case: case.climbs and not case.info.shared,
    "score_case": lambda case: Access.SCORE in case.info.needs and Access.GRADIENT in case.grants,
    "search_case": lambda case: Access.GRADIENT not in case.info.needs or not isinstance(case.world.space, Box),
    "tensor_case": lambda case: isinstance(case.world.space, Box),
    "padded_case": lambda case: case.batch().lengths is not None,
    "targeted_case": lambda case: case.info.targeted,
    "edge_case": lambda case: isinstance(case.world.space, Box) and case.info.name in ("fgsm", "mi-fgsm", "pgd"),
    "climb_case": lambda case: (
        isinstance(case.world.space, Box) and case.info.name in ("fgsm", "bim", "mi-fgsm", "pgd") and case.kind != "snr"
    ),
    "absolute_case": lambda case: case.kind in ("linf", "l2"),
    "leaf_case": lambda case: Access.LEAVES in case.info.needs and case.model().front_end is None,
    "front_case": lambda case: isinstance(case.model(), TreeModel) and case.info.models != "trees",
}
"""What a test asks for by the name of its argument."""


COSTLY = {
    "clare": ("test_broken", "test_goals", "test_budget"),
    **dict.fromkeys(("bert-attack", "textfooler", "kuleshov", "a2t"), ("test_broken", "test_goals")),
    "svre": ("test_broken",),
}
"""Attacks that ask other networks for every word, or many times a step -> the files in which they are slow."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, wanted in CHOICES.items():
        if name in metafunc.fixturenames:
            chosen = [case for case in cases() if wanted(case)]
            first = representative(chosen)
            if name == "device_case":  # every operation on a simulated device takes its time
                first = set(sorted(first)[::12])
            where = metafunc.module.__name__.rpartition(".")[2]
            quick = [str(case) in first and where not in COSTLY.get(case.info.name, ()) for case in chosen]
            marks = [() if now else (pytest.mark.slow,) for now in quick]
            params = [pytest.param(case, marks=mark, id=str(case)) for case, mark in zip(chosen, marks, strict=True)]
            metafunc.parametrize(name, params)


def representative(chosen: list[Case]) -> set[str]:
    """What the default run takes of the cases of a test: every attack within every kind of threat, each on one of the
    models that suit it, in turn over the registry. The rest is slow."""
    found: set[str] = set()
    groups: dict[tuple[str, str, str], list[Case]] = {}
    for case in chosen:
        groups.setdefault((case.world.modality, case.info.name, case.kind), []).append(case)
    for number, of in enumerate(groups.values()):
        found.add(str(of[number % len(of)]))
    return found


@pytest.fixture
def world_of() -> Callable[[str], World]:
    """The miniature of a modality, by its name."""
    return lambda name: worlds()[name]


@pytest.fixture
def all_cases() -> list[Case]:
    return cases()


@pytest.fixture
def unlisted() -> dict[str, Exception]:
    """Modalities whose attacks cannot be listed."""
    return registered()[1]
