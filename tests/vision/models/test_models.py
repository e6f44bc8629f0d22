"""Image models from every kind of spec and object, and what each asks for when it is not told."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from safetensors.torch import save_file

from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.batch import Access, Family
from carom.common.models.evaluation.row_blocks import ROWS_TOGETHER
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import TorchModel
from carom.common.models.trees import TreeModel
from carom.vision.data.load import load_data
from carom.vision.models.load import Rescale, load_model
from carom.vision.space import PIXELS

THREE = ["a", "b", "c"]


def pixels(n=4, shape=(1, 6, 5), seed=0):
    return PIXELS.decode(torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed)))


def beside_copies(module, x):
    """What a module answers to x among as many rows as models compute together."""
    return module(torch.cat([x, x[:1].expand(-len(x) % ROWS_TOGETHER, *x.shape[1:])]))[: len(x)]


@pytest.mark.parametrize("name", ["image-resnet", "image-forest"])
def test_zoo(name):
    model = load_model(f"zoo:{name}")
    assert model.name == name
    assert model(pixels(2, (1, 28, 28))).logits.shape == (2, 10)
    assert model.digest == load_model(f"zoo:{name}").digest
    assert (Access.LEAVES in model.access) == (name == "image-forest")
    with pytest.raises(CaromError, match="1x28x28"):
        model(pixels(2, (3, 28, 28)))


def test_zoo_suggests_names_and_takes_no_facts():
    with pytest.raises(UnknownName, match="image-resnet"):
        load_model("zoo:image-resnt")
    with pytest.raises(UnknownName, match="normalise"):
        load_model("zoo:image-resnet", normalise=None)
    with pytest.raises(UnknownName, match="Did you mean torchvision"):
        load_model("torchvison:resnet18")


def test_a_module_is_asked_about_by_name():
    with pytest.raises(CaromError, match=r"know the normalisation and classes of Tiny: pass normalise=\(mean"):
        load_model(toys.Tiny())
    with pytest.raises(CaromError, match="know the classes of mine"):
        load_model(toys.Tiny(), normalise=None, name="mine")
    with pytest.raises(UnknownName, match="normalise"):
        load_model(toys.Tiny(), normalize=None)
    with pytest.raises(CaromError, match="is not a model"):
        load_model(3)


def test_normalisation_and_bounds_happen_inside():
    module, x = toys.Tiny().eval(), pixels()
    plain = load_model(module, normalise=None, classes=THREE)
    assert isinstance(plain, TorchModel)
    assert plain.module is module
    assert plain.family is Family.CNN
    with torch.no_grad():
        scaled = load_model(module, normalise=(0.3, 0.2), classes=3)
        assert torch.allclose(scaled(x).logits, module((x - 0.3) / 0.2), atol=1e-5)
        bytes_ = load_model(module, normalise=(100, 50), bounds=(0, 255), classes=3)
        assert torch.allclose(bytes_(x).logits, module((x * 255 - 100) / 50), atol=1e-5)
        symmetric = load_model(module, normalise=None, bounds="-1,1", classes=3)
        assert torch.allclose(symmetric(x).logits, module(x * 2 - 1), atol=1e-5)
    assert len({m.digest for m in (plain, scaled, bytes_, symmetric)}) == 4


def test_per_channel_normalisation():
    x, mean, std = pixels(2, (3, 4, 4)), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    expected = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(Rescale(0, 1, (mean, std))(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"normalise": 0.5}, "normalise=0.5"),
        ({"normalise": ((0.5, 0.5), (0.1,))}, "as many numbers"),
        ({"normalise": (0.5, 0)}, "positive"),
        ({"normalise": None, "bounds": (1, 0)}, "first must be below"),
        ({"normalise": None, "bounds": 255}, "two numbers"),
        ({"normalise": None, "shape": (28, 28)}, "channels, height, width"),
        ({"normalise": None, "family": "cnnn"}, "Did you mean cnn"),
    ],
)
def test_facts_that_make_no_sense(facts, says):
    with pytest.raises(CaromError, match=says):
        load_model(toys.Tiny(), classes=3, **facts)


def test_safetensors(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    module, x, file = toys.Tiny(width=7), pixels(), tmp_path / "weights.safetensors"
    save_file(module.state_dict(), file)
    spec = f"safetensors:{file}#toys:tiny?width=7&normalise=none&classes=a,b,c"
    model = load_model(spec)
    assert model.classes == ("a", "b", "c")
    assert torch.equal(model(x).logits, beside_copies(module, x))
    assert load_model(spec.replace("&normalise=none", ""), normalise=None).digest == model.digest
    with pytest.raises(CaromError, match=r"fit Tiny .*another shape: features.weight \(7, 1, 3, 3\) for \(4,"):
        load_model(spec.replace("width=7&", ""))
    with pytest.raises(UnknownName, match="width"):
        load_model(spec.replace("width=7", "widht=7"))
    save_file({"features.weight": torch.zeros(4, 1, 3, 3), "foot.bias": torch.zeros(3)}, file)
    with pytest.raises(CaromError, match=r"missing: features.bias, head.weight, head.bias; unexpected: foot.bias"):
        load_model(spec.replace("width=7&", ""))
    with pytest.raises(CaromError, match="Name the factory"):
        load_model(f"safetensors:{file}")
    file.write_bytes(b"not weights at all")
    with pytest.raises(CaromError, match="not a safetensors file"):
        load_model(spec)
    with pytest.raises(CaromError, match="no such file of weights"):
        load_model(spec.replace("weights.", "wights."))


def test_pickles_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    module, file = toys.Tiny(), tmp_path / "weights.pt"
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, file)
    spec = f"safetensors:{file}#toys:Tiny?normalise=none&classes=3"
    with pytest.raises(CaromError, match=r"allow_pickle=true.*weights_only=True"):
        load_model(spec)
    assert torch.equal(load_model(spec + "&allow_pickle=true")(pixels()).logits, beside_copies(module, pixels()))
    torch.save(module, file)
    with pytest.raises(CaromError, match="weights_only=True"):
        load_model(spec + "&allow_pickle=true")
    with pytest.raises(CaromError, match="skops"):
        load_model(f"sklearn:{tmp_path / 'forest.pkl'}")


def test_python_specs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert load_model("py:toys:Tiny?width=5&normalise=none&classes=3").module.features.out_channels == 5
    function = load_model("py:toys:brightness?sharpness=4&answers=logits&classes=dark,bright")
    x = pixels()
    assert isinstance(function, FunctionModel)
    assert torch.allclose(function(x).logits[:, 1], 4 * (x.mean((1, 2, 3)) - 0.5), atol=1e-5)
    other = load_model("py:toys:brightness?answers=logits&classes=dark,bright")
    assert other.digest != function.digest
    with pytest.raises(CaromError, match="kind of scores and classes of py:toys:brightness"):
        load_model("py:toys:brightness")
    with pytest.raises(UnknownName, match="Tiny"):
        load_model("py:toys:Tinny")
    with pytest.raises(CaromError, match="cannot import toyz"):
        load_model("py:toyz:Tiny")


def grown(kind, low=0.0, high=1.0, shape=(1, 6, 5), layout="chw", **settings):
    x = pixels(80, shape)
    y = (x.flatten(1)[:, 3] + x.flatten(1)[:, 7] > 1).long().numpy()
    seen = x if layout == "chw" else x.permute(0, 2, 3, 1)
    return kind(random_state=0, **settings).fit((seen.flatten(1) * (high - low) + low).numpy(), y), x, y


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1, 1)])
def test_forests_answer_the_same_in_any_bounds(low, high):
    from sklearn.ensemble import RandomForestClassifier

    forest, x, _ = grown(RandomForestClassifier, low, high, n_estimators=5)
    model = load_model(forest, bounds=(low, high), shape=(1, 6, 5), classes=["no", "yes"])
    assert isinstance(model, TreeModel)
    assert Access.LEAVES in model.access
    theirs = forest.predict_proba((x.flatten(1) * (high - low) + low).numpy())
    assert np.abs(model(x).logits.exp().numpy() - theirs).max() < 1e-5


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255)])
def test_boosted_trees_answer_the_same_in_any_bounds(low, high):
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosted, x, _ = grown(HistGradientBoostingClassifier, low, high, max_iter=5)
    model = load_model(boosted, bounds=(low, high), shape=(1, 6, 5), classes=["no", "yes"])
    assert isinstance(model, TreeModel)
    theirs = boosted.decision_function((x.flatten(1) * (high - low) + low).numpy())
    assert np.abs(model(x).logits[:, 1].numpy() - theirs).max() < 1e-6


def test_colour_layouts():
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    for kind in (DecisionTreeClassifier, LogisticRegression):
        estimator, x, _ = grown(kind, shape=(3, 4, 5), layout="hwc")
        with pytest.raises(CaromError, match="layout"):
            load_model(estimator, bounds=(0, 1), shape=(3, 4, 5))
        model = load_model(estimator, bounds=(0, 1), shape=(3, 4, 5), layout="hwc")
        theirs = estimator.predict_proba(x.permute(0, 2, 3, 1).flatten(1).numpy())
        assert np.abs(model(x).logits.exp().numpy() - theirs).max() < 1e-4


def test_estimators_from_skops(tmp_path):
    import skops.io
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.svm import SVC

    for kind, settings, grants in (
        (RandomForestClassifier, {"n_estimators": 3}, Access.LEAVES),
        (GradientBoostingClassifier, {"n_estimators": 3}, Access.LEAVES),
        (HistGradientBoostingClassifier, {"max_iter": 3}, Access.LEAVES),
        (SVC, {}, Access.SCORE),
    ):
        estimator, x, _ = grown(kind, **settings)
        file = tmp_path / f"{kind.__name__}.skops"
        skops.io.dump(estimator, file)
        model = load_model(f"sklearn:{file}?bounds=0,1&shape=1x6x5&classes=no,yes")
        assert grants in model.access
        assert Access.GRADIENT not in model.access
        assert (model(x).logits.argmax(1).numpy() == estimator.predict(x.flatten(1).numpy())).all()
        held = load_model(estimator, bounds=(0, 1), shape=(1, 6, 5), classes=["no", "yes"])
        assert held.digest == model.digest
    with pytest.raises(CaromError, match="pixel bounds and input shape"):
        load_model(f"sklearn:{file}")
    with pytest.raises(CaromError, match="30 features, an image of shape 1x6x6 has 36"):
        load_model(f"sklearn:{file}?bounds=0,1&shape=1x6x6")
    with pytest.raises(CaromError, match="not been fitted"):
        load_model(SVC(), bounds=(0, 1), shape=(1, 6, 5))


def test_untrusted_and_damaged_skops_files(tmp_path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.tree import DecisionTreeClassifier

    file = tmp_path / "x.skops"
    skops.io.dump(FunctionTransformer(pixels), file)
    with pytest.raises(CaromError, match=r"does not trust: .*pixels.*trusted="):
        load_model(f"sklearn:{file}?bounds=0,1&shape=1x6x5")
    named = f"trusted={pixels.__module__}.pixels"
    with pytest.raises(CaromError, match="is not a model"):
        load_model(f"sklearn:{file}?bounds=0,1&shape=1x6x5&{named}")
    tree, *_ = grown(DecisionTreeClassifier)
    state = tree.tree_.__getstate__()
    state["nodes"]["left_child"][0] = 10_000_000
    tree.tree_.__setstate__(state)
    skops.io.dump(tree, file)
    with pytest.raises(CaromError, match="point outside"):
        load_model(f"sklearn:{file}?bounds=0,1&shape=1x6x5")
    file.write_bytes(b"PK but no zip")
    with pytest.raises(CaromError, match="not a skops file"):
        load_model(f"sklearn:{file}?bounds=0,1&shape=1x6x5")


def test_torchvision_pins_weights():
    with pytest.raises(CaromError, match=r"no weights are named. Pin one of resnet18@IMAGENET1K_V1, or resnet18@none"):
        load_model("torchvision:resnet18")
    with pytest.raises(CaromError, match="DEFAULT moves"):
        load_model("torchvision:resnet50@DEFAULT")
    with pytest.raises(UnknownName, match="IMAGENET1K_V2"):
        load_model("torchvision:resnet50@IMAGENET1K_V3")
    with pytest.raises(UnknownName, match="resnet18"):
        load_model("torchvision:resnet8@none")
    with pytest.raises(CaromError, match="normalisation and classes"):
        load_model("torchvision:resnet18@none")
    model = load_model("torchvision:squeezenet1_1@none?num_classes=3&classes=3&normalise=0.5,0.4,0.3;0.2,0.2,0.2")
    assert model(pixels(1, (3, 64, 64))).logits.shape == (1, 3)


@pytest.fixture
def squeezenet(monkeypatch):
    """torchvision's SqueezeNet, whose weights are made here and not fetched."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    module = squeezenet1_1().eval()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: module.state_dict())
    return module


def test_inception_sees_pixels_normalised_once(monkeypatch):
    """Its weights want (x - .5) / .5, and torchvision's own module makes that of images normalised as for ImageNet
    (`transform_input`): normalised with .5 before it, an image comes at less than half its contrast."""
    from torchvision.models import inception_v3

    module = inception_v3(weights=None, init_weights=False)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: module.state_dict())
    model = load_model("torchvision:inception_v3@IMAGENET1K_V1")
    assert model.shape == (3, 299, 299)
    for given in ("transform_input=false", "num_classes=3"):
        with pytest.raises(CaromError, match=f"{given.partition('=')[0]}.*belongs to the weights"):
            load_model(f"torchvision:inception_v3@IMAGENET1K_V1?{given}")

    class Seen(Exception):
        pass

    def stop(_, given):
        raise Seen(given[0])

    core = next(m for m in model.module.modules() if hasattr(m, "transform_input"))
    core.Conv2d_1a_3x3.register_forward_pre_hook(stop)
    x = pixels(2, (3, 299, 299))
    with pytest.raises(Seen) as seen:
        model.module(x)
    assert torch.allclose(seen.value.args[0], (x - 0.5) / 0.5, atol=1e-5)


def test_torchvision_weights_bring_their_preprocessing_but_no_resizing(squeezenet):
    from torchvision.models import SqueezeNet1_1_Weights

    model = load_model("torchvision:squeezenet1_1@IMAGENET1K_V1")
    x = pixels(1, (3, 224, 224)).requires_grad_()
    logits = model(x).logits
    assert model.classes[0] == "tench"
    # Their own preset crops 224 of 256 pixels: given such an image, it does to the middle what is done here.
    around = torch.nn.functional.interpolate(x.detach(), (256, 256))
    preset = SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    with model.frozen():
        inside = model(around[..., 16:240, 16:240]).logits
        assert torch.allclose(inside, squeezenet(preset(around)), atol=1e-4)
        (grad,) = torch.autograd.grad(model(x).logits.sum(), x)
    assert (grad[..., 0] != 0).any(), "the border of the image counts"
    assert logits.shape == (1, 1000)
    assert model.facts == {
        "weights": "SqueezeNet1_1_Weights.IMAGENET1K_V1",
        "weights_file": "squeezenet1_1-b8a52dc0.pth, whose sha256 begins with b8a52dc0",
        "resolution": "own, 224 x 224",
    }
    with pytest.raises(CaromError, match=r"3x224x224, the data has 3x32x32.*\?size=224&channels=3\).*resolution=N"):
        model(pixels(1, (3, 32, 32)))


def test_a_common_resolution_resizes_inside_and_says_so(squeezenet):
    own = load_model("torchvision:squeezenet1_1@IMAGENET1K_V1?resolution=own")
    common = load_model("torchvision:squeezenet1_1@IMAGENET1K_V1?resolution=32")
    x = pixels(2, (3, 32, 32)).requires_grad_()
    larger = torch.nn.functional.interpolate(x, (224, 224), mode="bilinear", antialias=True)
    with common.frozen(), own.frozen():
        assert torch.equal(common(x).logits, own(larger).logits)
        (grad,) = torch.autograd.grad(common(x).logits[:, 0].sum(), x)
    assert (grad != 0).float().mean() > 0.9
    assert common.facts["resizes"] == "resizes 32 x 32 -> 224 x 224 inside the model: a hidden defence"
    assert "resizes" not in own.facts
    digests = {load_model(f"torchvision:squeezenet1_1@IMAGENET1K_V1?resolution={n}").digest for n in (32, 48, 224)}
    assert len({own.digest, common.digest}) == 2
    assert own.digest in digests, "at its own size nothing is resized"
    with pytest.raises(CaromError, match=r"3x32x32, the data has 3x224x224. Load the data at 32 x 32.*another resolut"):
        common(pixels(1, (3, 224, 224)))


def test_any_module_can_be_given_a_common_resolution():
    module = toys.Tiny().eval()
    with pytest.raises(CaromError, match="own size, which carom cannot know: pass shape="):
        load_model(module, normalise=None, classes=3, resolution=8)
    model = load_model(module, normalise=None, classes=3, shape=(1, 6, 6), resolution=12)
    assert model.shape == (1, 12, 12)
    assert model(pixels(2, (1, 12, 12))).logits.shape == (2, 3)
    for bad in ("big", 0, True, 1.5):
        with pytest.raises(CaromError, match="write own, or the side"):
            load_model(module, normalise=None, classes=3, shape=(1, 6, 6), resolution=bad)
    with pytest.raises(CaromError, match="resolution= is for torch modules"):
        load_model(lambda images: images, answers="logits", classes=3, resolution=8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=24,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "owl"},
        label2id={"cat": 0, "dog": 1, "owl": 2},
    )
    folder = tmp_path_factory.mktemp("hub") / "vit"
    model = ViTForImageClassification(config).eval()
    processor = ViTImageProcessor(
        size={"height": 24, "width": 24}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, model, processor


class TestHuggingFace:
    """Tiny random checkpoints in the hub's own layout."""

    def test_gradients_reach_the_pixels(self, vit):
        model = load_model(f"hf:{vit[0]}")
        assert model.family is Family.TRANSFORMER
        assert model.classes == ("cat", "dog", "owl")
        common = load_model(f"hf:{vit[0]}?resolution=40")
        assert model.facts["resolution"] == "own, 24 x 24"
        assert common.facts["resizes"] == "resizes 40 x 40 -> 24 x 24 inside the model: a hidden defence"
        for taken, side in ((model, 24), (common, 40)):
            x = pixels(2, (3, side, side)).requires_grad_()
            with taken.frozen():
                (grad,) = torch.autograd.grad(taken(x).logits[:, 0].sum(), x)
            assert (grad != 0).float().mean() > 0.9
            assert grad.isfinite().all()
        with pytest.raises(CaromError, match=r"3x24x24, the data has 3x40x30.*size=24&channels=3.*resolution=N"):
            model(pixels(2, (3, 40, 30)))

    def test_loading_says_nothing_on_stderr(self, vit):
        from transformers.utils import logging as hub_logging

        hub_logging.warning_once.cache_clear()  # what was said once is not said again
        said, logger = io.StringIO(), logging.getLogger("transformers")
        handler = logging.StreamHandler(said)
        logger.addHandler(handler)
        try:
            load_model(f"hf:{vit[0]}")
        finally:
            logger.removeHandler(handler)
        assert said.getvalue() == ""

    @pytest.mark.parametrize("kind", ["deit", "swin", "convnext"])
    def test_other_architectures(self, kind, tmp_path):
        """Their processors crop, squash or enlarge; at the model's own size none of it is left."""
        import transformers as hf

        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        named = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
        kinds = {
            "deit": lambda: (
                hf.DeiTForImageClassification(hf.DeiTConfig(image_size=24, patch_size=8, **small, **named)),
                hf.DeiTImageProcessor(size={"height": 28, "width": 28}, crop_size={"height": 24, "width": 24}),
            ),
            "swin": lambda: (
                hf.SwinForImageClassification(
                    hf.SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, **named)
                ),
                hf.ViTImageProcessor(size={"height": 32, "width": 32}),
            ),
            "convnext": lambda: (
                hf.ConvNextForImageClassification(
                    hf.ConvNextConfig(hidden_sizes=[4, 6], depths=[1, 1], num_stages=2, image_size=32, **named)
                ),
                hf.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875),
            ),
        }
        torch.manual_seed(0)
        module, processor = kinds[kind]()
        side = 24 if kind == "deit" else 32
        for part in (module.eval(), processor):
            part.save_pretrained(tmp_path)
        model = load_model(f"hf:{tmp_path}")
        assert model.shape == (3, side, side)
        x = pixels(1, (3, side, side))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
        with torch.no_grad():
            assert torch.allclose(model(x).logits, module((x - mean) / std).logits, atol=1e-5)
            resized = load_model(f"hf:{tmp_path}?resolution=16")(pixels(1, (3, 16, 16))).logits
        assert resized.isfinite().all()

    def test_answers_as_transformers_does(self, vit):
        folder, module, processor = vit
        x = pixels(2, (3, 24, 24))
        theirs = processor(images=list(PIXELS.encode(x)), return_tensors="pt", input_data_format="channels_first")
        with torch.no_grad():
            expected = module(**theirs).logits
            assert torch.allclose(load_model(f"hf:{folder}")(x).logits, expected, atol=1e-4)
            assert torch.allclose(load_model(module, processor=processor)(x).logits, expected, atol=1e-4)

    def test_pipelines_answer_as_they_do_by_hand(self, vit, tmp_path, monkeypatch):
        import transformers
        from PIL import Image

        folder = vit[0]
        made = {"task": "image-classification", "model": str(folder), "device": -1}
        stored = torch.randint(0, 256, (4, 3, 24, 24), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        for options in ({}, {"top_k": 1}, {"function_to_apply": "sigmoid"}):
            pipe = transformers.pipeline(**made, **options)
            model = load_model(pipe)
            assert (model.classes, model.shape) == (("cat", "dog", "owl"), (3, 24, 24))
            assert Access.GRADIENT in model.access
            logits = model(PIXELS.decode(stored)).logits
            for picture, row in zip(stored, logits, strict=True):
                said = pipe(Image.fromarray(picture.permute(1, 2, 0).numpy()))
                best = [model.classes[k] for k in row.argsort(descending=True)]
                assert [one["label"] for one in said] == best[: len(said)]
        assert model.digest == load_model(f"hf:{folder}").digest
        (tmp_path / "picture_pipes.py").write_text(
            f"import transformers\n\n\ndef made():\n    return transformers.pipeline(**{made!r})\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        assert load_model("py:picture_pipes:made").digest == model.digest
        with pytest.raises(CaromError, match=r"resolution= is for networks.*processor=pipe\.image_processor"):
            load_model(pipe, resolution=12)

    def test_pipelines_that_cut_or_resize_are_refused_and_their_network_is_taken(self, vit):
        import transformers

        _, module, processor = vit
        small = transformers.ViTImageProcessor(size={"height": 12, "width": 12})
        pipe = transformers.pipeline("image-classification", model=module, image_processor=processor, device=-1)
        assert load_model(pipe).classes == ("cat", "dog", "owl")
        pipe.preprocess = lambda image, **more: type(pipe).preprocess(pipe, image.resize((8, 8)), **more)
        with pytest.raises(CaromError, match=r"answers otherwise.*load_model\(pipe\.model, processor=pipe\.image_proc"):
            load_model(pipe)
        assert load_model(pipe.model, processor=pipe.image_processor).shape == (3, 24, 24)
        pipe = transformers.pipeline("image-classification", model=module, image_processor=small, device=-1)
        with pytest.raises(CaromError, match=r"cannot be asked: Input image size \(12\*12\) doesn't match"):
            load_model(pipe)
        pipe.task = "image-to-text"
        with pytest.raises(CaromError, match="is a pipeline for image-to-text, and one for image-classification"):
            load_model(pipe)

    def test_an_object_without_its_processor_is_asked_about(self, vit):
        with pytest.raises(CaromError, match="normalisation and classes"):
            load_model(vit[1])
        assert load_model(vit[1], normalise=None, classes=3)(pixels(1, (3, 24, 24))).logits.shape == (1, 3)

    def test_errors_say_what_to_do(self, vit, tmp_path):
        import shutil

        with pytest.raises(CaromError, match=r"nothing: no such folder of a model"):
            load_model(f"hf:{tmp_path / 'nothing'}")
        folder = tmp_path / "pickled"
        shutil.copytree(vit[0], folder)
        (folder / "model.safetensors").unlink()
        torch.save(vit[1].state_dict(), folder / "pytorch_model.bin")
        with pytest.raises(CaromError, match="allow_pickle=true"):
            load_model(f"hf:{folder}")
        assert load_model(f"hf:{folder}?allow_pickle=true").classes[0] == "cat"
        (folder / "preprocessor_config.json").unlink()
        with pytest.raises(CaromError, match="preprocessing cannot be loaded"):
            load_model(f"hf:{folder}?allow_pickle=true")

    def test_preprocessing_that_torch_cannot_do_is_refused(self, vit):
        class Flips:
            def to_dict(self):
                return vit[2].to_dict()

            def __call__(self, **given):
                return {"pixel_values": vit[2](**given)["pixel_values"][:, ::-1]}

        with pytest.raises(CaromError, match="does more to images"):
            load_model(vit[1], processor=Flips())


def test_a_normalisation_is_for_as_many_channels_as_it_has_values():
    rgb = {"normalise": ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)), "classes": 10, "name": "mine"}
    grey = load_data("builtin:fashion-mnist", limit=2)
    model = load_model(torch.nn.Flatten(), **rgb)
    with pytest.raises(CaromError, match="takes inputs of shape 3xanyxany, the data has 1x28x28"):
        model.predict(grey.batch())  # it would make three channels of one
    with pytest.raises(CaromError, match="3 values for the mean, and shape= says 1 channels"):
        load_model(torch.nn.Flatten(), shape=(1, 28, 28), **rgb)
    for facts in ({"normalise": "nan;1"}, {"normalise": None, "bounds": "0,inf"}):
        with pytest.raises(CaromError, match=r"normalise=|bounds="):
            load_model(torch.nn.Flatten(), **(rgb | facts))
