"""Images: pixels, image models and data, Square, and the embedded Fashion-MNIST study."""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from carom.common.loading.array_files import ENDINGS
from carom.common.loading.arrays import load_arrays
from carom.common.modality.contract import Defaults, Modality
from carom.common.modality.jury import Jury
from carom.vision.attacks import ATTACKS, THREATS, TRANSFORMS
from carom.vision.data.layout import channels_first, write_png
from carom.vision.data.load import BUILTIN, load_data
from carom.vision.defences import DEFENCES
from carom.vision.models.load import load_model
from carom.vision.models.zoo import RECIPES
from carom.vision.panels import panels
from carom.vision.quality.metrics import METRICS
from carom.vision.space import PIXELS

SOURCES = ("zoo:image-resnet", "zoo:image-gru", "zoo:image-vit", "zoo:image-forest")

MODALITY = Modality(
    name="image",
    summary="pixels in [0, 1], stored as 8 bits",
    attacks=ATTACKS,
    recipes=RECIPES,
    data=BUILTIN,
    threats=THREATS,
    defaults=Defaults(
        data="builtin:fashion-mnist",
        sources=SOURCES,
        targets=(*SOURCES, "zoo:image-vgg", "zoo:image-resnet-s1"),
        attacks=("pgd", "soft-leaf-path"),
        eps="28/255",
        threat="linf",
        limit=200,
    ),
    load_model=load_model,
    load_data=load_data,
    panels=panels,
    transforms=TRANSFORMS,
    defences=DEFENCES,
    metrics=METRICS,
    load_log=partial(load_arrays, modality="image", space=PIXELS, layout=channels_first, read=load_data),
    logs=ENDINGS,
    log_folders=True,
    write_example=write_png,
    model_kinds=("torchvision",),
    jury=Jury(
        adaptive=(
            ("auto?steps=20&targets=4&queries=300", "apgd", "fmn", "patch", "jsma"),
            ("leaf-path", "soft-leaf-path"),
        ),
        random=(("pgd?steps=40",),),
        query=(("square?queries=1000", "sparse-rs", "spatial", "hopskipjump"),),
        transfer=("mi-fgsm", "soft-leaf-path", "apgd", "fmn"),
        one_step=("fgsm",),
        many_steps=("pgd?steps=20",),
        longer=("apgd?steps=100&loss=margin",),
        black_box=("square?queries=200", "sparse-rs?queries=300"),
    ),
    order=1,
    study=(files(__name__) / "templates" / "study.toml").read_text(encoding="utf-8"),
    scales={
        "linf": [f"{k}/255" for k in range(1, 65)],
        "l2": [f"{0.1 * 1.1**k:.3g}" for k in range(60)],  # to 28: Linf 64/255 on 12 000 pixels
        "l1": [f"{1.1**k:.3g}" for k in range(80)],  # to 1 900: Linf 64/255 on 7 400 pixels
        "l0": [str(k) for k in dict.fromkeys(round(1.15**k) for k in range(50))],  # pixels, to 943
        "patch": [f"{k / 100:g}" for k in range(1, 41)],  # of the area
        "spatial": [f"{k / 20:g}" for k in range(1, 41)],
    },
)
