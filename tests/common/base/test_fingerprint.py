"""Things that could answer differently have different fingerprints; equal ones have equal ones, wherever they come from."""

from __future__ import annotations

import copy
import functools
import importlib
import os
import pickle
import subprocess
import sys
import threading
import types
from collections import OrderedDict, namedtuple
from enum import Enum

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carom.common.base.fingerprint import Unreadable, fingerprint
from carom.common.base.identity import digest_of


def closure(k):
    def answer(x):
        return x * k

    return answer


def default(k):
    def answer(x, k=k):
        return x * k

    return answer


def scaled(x, k=1.0):
    return x * k


class Called:
    def __init__(self, k):
        self.k = k

    def __call__(self, x):
        return x * self.k


class Slots:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k


class Side(Enum):
    LEFT = 1
    RIGHT = 2


Point = namedtuple("Point", "x y")


class Net(nn.Module):
    def __init__(self, setting=None):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        nn.init.ones_(self.layer.weight)
        self.setting = setting

    def forward(self, x):
        return self.layer(x)


PAIRS = {
    "closures": (closure(1), closure(2)),
    "closures over arrays": (closure(np.zeros(3)), closure(np.ones(3))),
    "closures over closures": (closure(closure(1)), closure(closure(2))),
    "defaults": (default(1), default(2)),
    "keyword-only defaults": (lambda *, k=1: k, lambda *, k=2: k),
    "partials by place": (functools.partial(scaled, 1), functools.partial(scaled, 2)),
    "partials by name": (functools.partial(scaled, k=1), functools.partial(scaled, k=2)),
    "bound methods": (Called(1).__call__, Called(2).__call__),
    "callable objects": (Called(1), Called(2)),
    "slots": (Slots(1), Slots(2)),
    "words": (Net("day-first"), Net("night-first")),
    "lists": (Net([1, 2]), Net([2, 1])),
    "nested dicts": (Net({"a": {"b": 1}}), Net({"a": {"b": 2}})),
    "sets": (Net({1, 2}), Net({1, 3})),
    "tensors that are no buffers": (Net(torch.zeros(2)), Net(torch.ones(2))),
    "functions": (Net(torch.relu), Net(torch.abs)),
    "lambdas": (Net(lambda x: x), Net(lambda x: -x)),
    "bytes": (Net(b"a"), Net(b"b")),
    "bytearrays": (Net(bytearray(b"a")), Net(bytearray(b"b"))),
    "enums": (Net(Side.LEFT), Net(Side.RIGHT)),
    "types": (Net(int), Net(float)),
    "named tuples": (Net(Point(1, 2)), Net(Point(2, 1))),
    "types of numbers": (Net(1), Net(1.0)),
    "types of arrays": (Net(np.zeros(2, np.float32)), Net(np.zeros(2, np.float64))),
    "shapes": (Net(np.zeros((2, 1))), Net(np.zeros((1, 2)))),
    "object arrays": (Net(np.array(["a", None], object)), Net(np.array(["b", None], object))),
    "objects in objects": (Net(Called([Called(1)])), Net(Called([Called(2)]))),
    "activations": (nn.Sequential(nn.ReLU()), nn.Sequential(nn.GELU())),
    "strides": (nn.Conv2d(1, 1, 3, stride=1).requires_grad_(False), nn.Conv2d(1, 1, 3, stride=2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_in_what_it_holds_differs(name):
    first, second = PAIRS[name]
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) == fingerprint(first)


@pytest.mark.parametrize(
    "thing",
    [closure(1), functools.partial(scaled, 2), Called([1, {"a": np.ones(2)}]), Net("x"), Slots(3), OrderedDict(a=1)],
    ids=["closure", "partial", "object", "network", "slots", "mapping"],
)
def test_copies_are_alike(thing):
    assert fingerprint(copy.deepcopy(thing)) == fingerprint(thing)


def test_weights_and_modes():
    net, other = Net(), Net()
    assert fingerprint(net) == fingerprint(other.eval())
    with torch.no_grad():
        other.layer.weight[0, 0] = 2
    assert fingerprint(net) != fingerprint(other)


def test_hooks_count():
    net = Net()
    before = fingerprint(net)
    net.register_forward_hook(lambda module, given, answer: -answer)
    assert fingerprint(net) != before


def test_estimators_are_what_they_were_fitted_to():
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    x = np.random.default_rng(0).random((60, 4))
    y = (x[:, 0] > 0.5).astype(int)
    for make in (
        lambda: RandomForestClassifier(5, random_state=0),
        lambda: HistGradientBoostingClassifier(max_iter=3, random_state=0),
        lambda: KNeighborsClassifier(3),
        lambda: make_pipeline(StandardScaler(), FunctionTransformer(np.abs), KNeighborsClassifier(3)),
    ):
        fitted = make().fit(x, y)
        assert fingerprint(fitted) == fingerprint(pickle.loads(pickle.dumps(fitted))) == fingerprint(make().fit(x, y))
        assert fingerprint(fitted) != fingerprint(make().fit(x, 1 - y))


class Booster:
    """As boosters of other libraries: its trees are raw bytes that only pickling gives away."""

    def __init__(self, raw):
        self.raw = raw

    def __getstate__(self):
        return {"handle": bytearray(self.raw)}

    def __setstate__(self, state):
        self.raw = bytes(state["handle"])


def test_state_that_only_pickling_gives_away():
    assert fingerprint(Booster(b"one")) != fingerprint(Booster(b"two"))
    assert fingerprint(Booster(b"one")) == fingerprint(Booster(b"one"))


def module_of(tmp_path, name, text):
    (tmp_path / f"{name}.py").write_text(text)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    sys.dont_write_bytecode = True
    return importlib.import_module(name)


EDITED = """
import torch
import fp_helper
LIMIT = 0.5
TABLE = {"a": [1, 2]}
class Base(torch.nn.Module):
    sign = 1
    def turned(self, x):
        return x
class Net(Base):
    def forward(self, x):
        \"\"\"What it does.\"\"\"
        return self.turned(fp_helper.prepared(x) - LIMIT) * TABLE["a"][0]
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- LIMIT", "+ LIMIT"),
        ("LIMIT = 0.5", "LIMIT = 0.6"),
        ('"a": [1, 2]', '"a": [2, 2]'),
        ("return x\n", "return -x\n"),
        ("sign = 1", "sign = -1"),
    ],
)
def test_code_that_answers_rest_on_counts(tmp_path, monkeypatch, old, new):
    monkeypatch.syspath_prepend(tmp_path)
    module_of(tmp_path, "fp_helper", "def prepared(x):\n    return scaled(x)\ndef scaled(x):\n    return x\n")
    before = fingerprint(module_of(tmp_path, "fp_nets", EDITED).Net())
    assert old in EDITED
    assert fingerprint(module_of(tmp_path, "fp_nets", EDITED.replace(old, new, 1)).Net()) != before


def test_helpers_in_other_files_count_and_places_do_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper = "def prepared(x):\n    return scaled(x)\ndef scaled(x):\n    return x\n"
    module_of(tmp_path, "fp_helper", helper)
    before = fingerprint(module_of(tmp_path, "fp_nets", EDITED).Net())
    commented = "# a comment\n\n" + EDITED.replace("What it does.", "What it really does.")
    assert fingerprint(module_of(tmp_path, "fp_moved", commented).Net()) == before  # another file, other lines
    module_of(tmp_path, "fp_helper", helper.replace("return x\n", "return -x\n"))
    assert fingerprint(module_of(tmp_path, "fp_nets", EDITED).Net()) != before


def test_other_processes_agree():
    code = (
        "import functools, numpy as np; from carom.common.base.fingerprint import fingerprint;"
        "print(fingerprint([{'b': {1, 'x', 2.5}, 'a': np.arange(3)}, functools.partial(np.add, 1)]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


class Locked:
    def __init__(self):
        self.lock = threading.Lock()


def reads(x):
    with open("weights.json") as file:
        return file.read() + x


def calls(x):
    return subprocess.run(x)


@pytest.mark.parametrize(
    "thing", [Locked(), reads, calls, (i for i in range(3))], ids=["lock", "file", "process", "generator"]
)
def test_what_cannot_be_read_is_refused(thing):
    with pytest.raises(Unreadable):
        fingerprint(thing)
    first, second = digest_of(thing), digest_of(thing)
    assert first != second  # nothing is found again
    assert first.why


def test_constructors_may_read_files(tmp_path):
    class Loaded(nn.Module):
        def __init__(self, path):
            super().__init__()
            with open(path) as file:
                self.weight = float(file.read())

        def forward(self, x):
            return x * self.weight

    (tmp_path / "w").write_text("1")
    first = fingerprint(Loaded(tmp_path / "w"))
    (tmp_path / "w").write_text("2")
    assert fingerprint(Loaded(tmp_path / "w")) != first


def test_what_holds_itself_ends():
    ring, other = [], []
    ring.append(ring)
    other.append(other)
    assert fingerprint(ring) == fingerprint(other)
    net = Net()
    net.setting = [net]
    assert fingerprint(net) != fingerprint(Net([]))
    assert types.FunctionType  # functions that call themselves
    assert fingerprint(recursive) == fingerprint(recursive)


def recursive(n):
    return n and recursive(n - 1)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(values, values)
def test_values_are_told_apart(one, other):
    assert fingerprint(copy.deepcopy(one)) == fingerprint(one)
    if repr(one) != repr(other) and one != other:
        assert fingerprint(one) != fingerprint(other)
