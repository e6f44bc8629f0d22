"""Trees of XGBoost, LightGBM and CatBoost answer as the library does: every label, and every score to the last digit."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from booster_toys import GROWERS, grown, library_scores, plane, without

import carom
from carom.common.attacks.catalogue.trees import leaf_path
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Family, Goal
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.loading.boosters.estimator import BoostedTrees, probes
from carom.common.loading.boosters.read import boosted_of, load_boosted
from carom.common.loading.boosters.tables import sending, sound
from carom.common.models.trees import LEAF, Grown, TreeEnsemble, TreeModel

FACTS = {"bounds": (0, 1), "shape": (1, 2, 3), "classes": ["a", "b", "c"]}
KINDS = ("xgboost", "lightgbm", "catboost")
FILES = {"xgboost": ("m.json", "m.ubj"), "lightgbm": ("m.txt",), "catboost": ("m.cbm", "m.json")}


@cache
def fitted(name, classes=3):
    return grown(name, classes)


def saved(model, path):
    """The model in a file, as its library writes it."""
    if type(model).__module__.startswith("lightgbm"):
        model.booster_.save_model(str(path))
    elif type(model).__module__.startswith("catboost"):
        model.save_model(str(path), format=path.suffix[1:])
    else:
        model.save_model(str(path))
    return path


def inputs(trees, special):
    """Thousands of rows: anywhere, on every threshold and beside it, and special values in some places."""
    rng = np.random.default_rng(1)
    anywhere = rng.random((3000, 6), dtype=np.float32) - np.float32(0.2)
    inner = trees.ensemble.left != LEAF
    feature, cut = trees.ensemble.feature[inner].numpy(), trees.ensemble.threshold[inner].numpy()
    on = np.repeat(anywhere[:1].astype(np.float64), 3 * len(cut), 0)
    around = np.stack([np.nextafter(cut, cut.dtype.type(side)) for side in (-np.inf, np.inf)])
    on[np.arange(len(on)), np.tile(feature, 3)] = np.concatenate([cut, *around])
    rows = np.concatenate([anywhere, probes(trees.ensemble, 6), on.astype(np.float32)])
    if special:
        rows = np.repeat(rows, 2, 0)
        rows[rng.random(rows.shape) < 0.2] = 0.0
        rows[rng.random(rows.shape) < 0.05] = -0.0
        rows[rng.random(rows.shape) < 0.05] = 1e-36
    return rows if trees.ensemble.threshold.dtype == torch.float32 else np.concatenate([rows.astype(np.float64), on])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", GROWERS)
def test_answers_are_the_librarys_to_the_last_digit(name, classes):
    without(name)
    model = fitted(name, classes)
    trees = boosted_of(model)
    x = inputs(trees, special="zero" in name)
    assert len(x) > 3000
    assert np.array_equal(trees.predict(x), np.asarray(model.predict(x)).reshape(-1))
    theirs, ours = library_scores(model, x), trees.logits(x)
    assert len(np.unique(ours, axis=0)) > 3
    if "averaged" in name:  # LightGBM's scores are sums there, and its answer their mean
        assert np.allclose(trees.predict_proba(x), model.predict_proba(x), rtol=1e-12, atol=1e-12)
    else:
        assert np.array_equal(ours[:, 1] if theirs.ndim == 1 else ours, theirs)
    if "one against the rest" not in name and "hinge" not in name:
        assert np.allclose(trees.predict_proba(x), model.predict_proba(x), rtol=0, atol=2e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_files_answer_as_the_object_that_was_saved(kind, tmp_path):
    without(kind)
    for file in FILES[kind]:
        for name in (name for name in GROWERS if name.startswith(kind) and "zero" not in name):
            held = boosted_of(fitted(name))
            read = load_boosted(kind, str(saved(fitted(name), tmp_path / file)))
            x = inputs(held, special=False)
            assert np.array_equal(read.logits(x), held.logits(x))
            assert read.n_features_in_ == 6


def test_early_stopping_counts_as_the_class_that_saved_the_file_has_it(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    x, y = plane(3)
    rounds = {"n_estimators": 30, "learning_rate": 0.9, "max_depth": 6, "n_jobs": 1}
    model = xgboost.XGBClassifier(early_stopping_rounds=2, **rounds)
    model.fit(x[:150], y[:150], eval_set=[(x[150:], y[150:])], verbose=False)
    counted = 3 * (model.best_iteration + 1)
    assert counted < len(model.get_booster().get_dump())
    assert boosted_of(model).ensemble.trees == counted
    assert np.array_equal(boosted_of(model).predict(x), model.predict(x))
    assert load_boosted("xgboost", str(saved(model, tmp_path / "c.json"))).ensemble.trees == counted
    model.get_booster().set_attr(scikit_learn=None)
    own = load_boosted("xgboost", str(saved(model.get_booster(), tmp_path / "b.json")))
    assert own.ensemble.trees > counted
    data = xgboost.DMatrix(x)
    assert np.array_equal(own.predict(x), model.get_booster().predict(data).argmax(1))


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_asked_as_stored_over_255(kind):
    """What leaves are reached does not hang on how k / 255 is rounded, thresholds of k / 255 among them."""
    without(kind)
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (400, 6))
    y = (stored[:, 0] > 100).astype(int) + (stored[:, 1] + stored[:, 2] > 300)
    for low, high in ((0, 1), (0, 255), (-1, 1)):
        x = stored / 255 * (high - low) + low if (low, high) != (0, 255) else stored.astype(float)
        estimator = grown(f"{kind} plain", 3, x, y)
        trees = boosted_of(estimator)
        on = trees.ensemble.threshold[trees.ensemble.left != LEAF].numpy()
        facts = {**FACTS, "bounds": (low, high)}
        model = carom.load_model(estimator, "image", **facts)
        assert isinstance(model, TreeModel)
        assert model.family is Family.TREE
        assert Access.LEAVES in model.access
        every = np.concatenate([stored, np.repeat(np.arange(256)[:, None], 6, 1), rng.integers(0, 256, (4000, 6))])
        given = every / 255 * (high - low) + low if (low, high) != (0, 255) else every.astype(float)
        asked = torch.from_numpy(every).float().view(-1, 1, 2, 3) / 255
        theirs = library_scores(estimator, given)
        assert len(on)
        assert np.array_equal(model(asked).logits.numpy(), theirs)
        assert np.array_equal(model(asked).logits.argmax(1).numpy(), estimator.predict(given).reshape(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_leaf_path_finds_the_smallest_change_of_one_tree(kind):
    without(kind)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 16, (400, 2)) / 15
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.4)).astype(int)
    estimator = grown(f"{kind} stump", 2, x, y)
    model = carom.load_model(estimator, "image", bounds=(0, 1), shape=(1, 1, 2), classes=["a", "b"])
    assert model.ensemble.trees == 1
    every = torch.cartesian_prod(torch.arange(256), torch.arange(256)).view(-1, 1, 1, 2) / 255
    labels = model(every).logits.argmax(1)
    assert labels.unique().tolist() == [0, 1]
    start = every[:: 65536 // 20]
    batch = Batch(start, model(start).logits.argmax(1), [f"e{i}" for i in range(len(start))])
    found = leaf_path()(Problem(model, Goal(batch.labels), Linf(1.0)), batch, Rng.of(0, batch.ids))
    away = (every[None] - start[:, None]).abs().flatten(2).amax(2)
    least = away.masked_fill(labels[None] == batch.labels[:, None], torch.inf).amin(1)
    assert found.success.all()
    assert torch.allclose((found.inputs - start).abs().flatten(1).amax(1), least, atol=1e-6)
    assert (estimator.predict(found.inputs.flatten(1).double().numpy()) != batch.labels.numpy()).all()


def test_scores_that_float32_calls_even_are_a_tie():
    """A lead so small that the library's probability is a half: its answer is the first class."""
    xgboost = pytest.importorskip("xgboost")
    model = fitted("xgboost plain", 2)
    content = json.loads(model.get_booster().save_raw("json"))
    content["learner"]["learner_model_param"]["base_score"] = "[5E-1]"
    forest = content["learner"]["gradient_booster"]["model"]
    said = {}
    for lead in (5e-8, 8e-8, 1e-7, -1e-9):
        for tree in forest["trees"]:
            tree["split_conditions"] = [0.0 if left == LEAF else cut for left, cut in zip(
                tree["left_children"], tree["split_conditions"], strict=True)]  # fmt: skip
        first = forest["trees"][0]
        first["split_conditions"] = [lead if left == LEAF else cut for left, cut in zip(
            first["left_children"], first["split_conditions"], strict=True)]  # fmt: skip
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(json.dumps(content).encode()))
        other = xgboost.XGBClassifier(n_jobs=1)
        other._Booster, other.n_classes_ = booster, 2
        x = np.zeros((1, 6), dtype=np.float32)
        said[lead] = int(other.predict(x)[0])
        assert boosted_of(booster).predict(x)[0] == said[lead]
    assert said == {5e-8: 0, 8e-8: 0, 1e-7: 1, -1e-9: 0}


@pytest.mark.parametrize("kind", KINDS)
def test_opposite_labels_never_share_a_digest(kind):
    without(kind)
    x, y = plane(2)
    models = [carom.load_model(grown(f"{kind} plain", 2, x, side), "image", **{**FACTS, "classes": ["a", "b"]})
              for side in (y, 1 - y, y)]  # fmt: skip
    assert models[0].digest != models[1].digest
    assert models[0].digest == models[2].digest


@pytest.mark.parametrize("kind", KINDS)
def test_inside_pipelines_searches_and_calibrators(kind):
    """They answer as their wrapper does, without leaves, and are trees."""
    without(kind)
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = plane(3)
    inner = fitted(f"{kind} plain")
    for wrapped in (
        make_pipeline(StandardScaler(), grown(f"{kind} plain", 3)).fit(x, y),
        CalibratedClassifierCV(FrozenEstimator(inner)).fit(x, y),
    ):
        model = carom.load_model(wrapped, "image", **FACTS)
        stored = np.random.default_rng(0).integers(0, 256, (500, 6))
        asked = torch.from_numpy(stored).float().view(-1, 1, 2, 3) / 255
        assert model.family is Family.TREE
        assert Access.SCORE in model.access
        assert np.array_equal(model(asked).logits.argmax(1).numpy(), wrapped.predict(stored / 255).reshape(-1))


def categorical(kind):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, (300, 2))
    y = np.isin(x[:, 0], (1, 4)).astype(int)
    if kind == "xgboost":
        import pandas
        import xgboost

        table = pandas.DataFrame({"a": pandas.Categorical(x[:, 0]), "b": x[:, 1].astype(float)})
        return xgboost.XGBClassifier(n_estimators=3, enable_categorical=True, n_jobs=1).fit(table, y)
    if kind == "lightgbm":
        import lightgbm

        return lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(x, y, categorical_feature=[0])
    import catboost

    settings = {"verbose": 0, "allow_writing_files": False, "thread_count": 1, "one_hot_max_size": 10}
    return catboost.CatBoostClassifier(3, **settings).fit(x, y, cat_features=[0])


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_interval_says_is_refused(kind):
    without(kind)
    with pytest.raises(CaromError, match=r"have no order that a leaf could be an interval of.*predict_proba"):
        boosted_of(categorical(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_remedy_of_a_refusal_leads_to_a_right_run(kind):
    without(kind)
    trees = fitted(f"{kind} plain")

    def by_hand(x):
        return trees.predict_proba(x.reshape(len(x), -1))

    model = carom.load_model(by_hand, "image", answers="probabilities", classes=["a", "b", "c"])
    stored = np.random.default_rng(0).integers(0, 256, (500, 6))
    asked = torch.from_numpy(stored).float().view(-1, 1, 2, 3) / 255
    right = trees.predict((stored / 255).astype(np.float32)).reshape(-1)
    assert np.array_equal(model(asked).logits.argmax(1).numpy(), right)


def test_other_models_of_the_libraries_are_refused():
    xgboost = pytest.importorskip("xgboost")
    x, y = plane(2)
    linear = xgboost.XGBClassifier(booster="gblinear", n_estimators=2, n_jobs=1).fit(x, y)
    with pytest.raises(CaromError, match="gblinear, which has no trees"):
        boosted_of(linear)
    number = xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(x, y)
    with pytest.raises(CaromError, match="reg:squarederror, which answers no class"):
        boosted_of(number.get_booster())
    wide = xgboost.XGBClassifier(multi_strategy="multi_output_tree", n_estimators=2, n_jobs=1).fit(*plane(3))
    with pytest.raises(CaromError, match="one tree for all classes"):
        boosted_of(wide)
    with pytest.raises(CaromError, match="XGBClassifier has no classes_: it has not been fitted"):
        carom.load_model(xgboost.XGBClassifier(), "image", **FACTS)
    lightgbm = pytest.importorskip("lightgbm")
    leaves = lightgbm.LGBMClassifier(n_estimators=2, linear_tree=True, verbose=-1, n_jobs=1).fit(x, y)
    with pytest.raises(CaromError, match="linear models in its leaves"):
        boosted_of(leaves)
    catboost = pytest.importorskip("catboost")
    moved = catboost.CatBoostClassifier(3, verbose=0, allow_writing_files=False, thread_count=1).fit(x, y)
    moved.set_probability_threshold(0.7)
    with pytest.raises(CaromError, match=r"from a probability of 0\.7 on"):
        boosted_of(moved)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_none_are_refused_by_name(kind, tmp_path):
    without(kind)
    others = [
        b"",
        b"{}",
        b"{",
        b"CBM1",
        b"[1]",
        b"\xff\xfe",
        b"tree\nversion=v4\nobjective=binary\n\nTree=0\nend of trees",
        b"[" * 99_999,
    ]
    for file in FILES[kind]:
        sound_one = saved(fitted(f"{kind} plain"), tmp_path / file).read_bytes()
        for data in [*others, sound_one[: len(sound_one) // 2], sound_one[100:-100]]:
            (tmp_path / file).write_bytes(data)
            with pytest.raises(CaromError, match=rf"{file}: not a model of {kind}'s that can be read") as refused:
                carom.load_model(f"{kind}:{tmp_path / file}", "image", **FACTS)
            assert "\n" not in str(refused.value)
            assert "save_model" in str(refused.value)
    with pytest.raises(CaromError, match="a pickle can run any code"):
        load_boosted(kind, str(tmp_path / "m.pkl"))
    with pytest.raises(CaromError, match="no such file"):
        load_boosted(kind, str(tmp_path / "none"))


def test_trees_that_lead_nowhere_are_refused(tmp_path):
    pytest.importorskip("xgboost")
    content = json.loads(saved(fitted("xgboost plain"), tmp_path / "m.json").read_text())
    tree = content["learner"]["gradient_booster"]["model"]["trees"][1]
    for part, value in (("left_children", 0), ("right_children", 9999), ("split_indices", 6), ("left_children", -7)):
        kept, tree[part][0] = tree[part][0], value
        (tmp_path / "m.json").write_text(json.dumps(content))
        tree[part][0] = kept
        with pytest.raises(CaromError, match=r"nodes point outside|a feature beyond"):
            load_boosted("xgboost", str(tmp_path / "m.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_that_is_missing_is_named_with_its_extra(kind, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == kind else find(name, *rest))
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(CaromError, match=rf"m\.json needs {kind}: pip install 'carom\[boosting\]'"):
        load_boosted(kind, str(tmp_path / "m.json"))


def test_a_library_that_answers_otherwise_is_refused():
    from carom.common.loading.boosters.estimator import check_answers

    leaf = Grown(*np.full((2, 1), LEAF), np.zeros(1), np.zeros(1), np.array([[0.0, 1.0]]))
    trees = BoostedTrees("it", TreeEnsemble.of([leaf], np.zeros(2)), 3)
    sure = 1 / (1 + np.exp(-1.0))
    check_answers(trees, lambda x: np.full(len(x), sure), "it")
    with pytest.raises(CaromError, match="answers otherwise than its trees"):
        check_answers(trees, lambda x: np.full(len(x), sure - 0.01), "it")
    with pytest.raises(CaromError, match="answers otherwise than its trees"):
        check_answers(trees, lambda x: np.full((len(x), 3), sure), "it")


def test_special_values_go_where_they_are_sent():
    """Against the rule itself, on a tree that asks for one feature again and again."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        left = np.array([1, 3, 5, LEAF, LEAF, LEAF, LEAF])
        right = np.array([2, 4, 6, LEAF, LEAF, LEAF, LEAF])
        feature, cut = rng.integers(0, 2, 7), rng.integers(-3, 4, 7).astype(float)
        to_left, where = rng.random(7) < 0.5, rng.random(7) < 0.7
        tree, _ = sound(Grown(left, right, feature, cut, np.arange(7.0)), 2)
        sent = sending(tree, to_left, where, -1.0, 0.0)
        ensemble = TreeEnsemble.of([sent._replace(value=np.asarray(sent.value)[:, None])], np.zeros(1))
        points = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 2), -1).reshape(-1, 2).astype(np.float32)
        for point, answer in zip(points, ensemble.logits(torch.from_numpy(points))[:, 0].tolist(), strict=True):
            node = 0
            while left[node] != LEAF:
                value = point[feature[node]]
                goes = to_left[node] if where[node] and -1 < value <= 0 else value <= cut[node]
                node = left[node] if goes else right[node]
            assert answer == node


def test_features_beyond_int16_tell_digests_apart():
    """Large images have more features than an int16 counts to."""

    def asking(feature):
        grown = Grown(np.array([1, LEAF, LEAF]), np.array([2, LEAF, LEAF]), np.array([feature, 0, 0]),
                      np.array([0.5, 0, 0]), np.array([[0, 0], [0, 1], [1, 0]], dtype=float))  # fmt: skip
        facts = {"name": "t", "modality": "image", "space": carom.Box("b", 0, 1, 1 / 255), "classes": ("a", "b")}
        return TreeModel(TreeEnsemble.of([grown]), **facts)

    assert asking(3).digest != asking(3 + 65536).digest
