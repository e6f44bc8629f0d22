"""Carom: adversarial examples for images, audio and text, and honest measures of how they transfer.

>>> import carom
>>> carom.__version__
'0.1.0'

The functions below import torch when they are first used, so that `import carom` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AdversarialSet": "common.study.replay",
    "attack": "common.api",
    "certify": "common.api",
    "defend": "common.api",
    "ensemble": "common.api",
    "export_module": "common.defences.export",
    "get_attack": "common.api",
    "list_attacks": "common.api",
    "list_defences": "common.api",
    "load_data": "common.api",
    "load_model": "common.api",
    "load_set": "common.study.replay",
    "replay": "common.api",
    "robust": "common.judging",
    "Robust": "common.robustness.outcome",
    "transfer": "common.api",
    "lgv": "common.surrogates.lgv",
    "substitute": "common.surrogates.substitute",
    "train_defended": "common.surrogates.defended",
    "save_surrogate": "common.surrogates.files",
    "load_surrogate": "common.surrogates.files",
    "Access": "common.core.batch",
    "Batch": "common.core.batch",
    "Family": "common.core.batch",
    "Goal": "common.core.batch",
    "Problem": "common.core.problem",
    "Result": "common.core.problem",
    "Ascent": "common.attacks.gradient.ascent",
    "AttackInfo": "common.attacks.info",
    "TransformInfo": "common.attacks.gradient.transforms",
    "DefenceInfo": "common.defences.info",
    "Detector": "common.defences.detectors",
    "InputTransform": "common.defences.transforms",
    "Modality": "common.modality.contract",
    "Model": "common.core.model",
    "TorchModel": "common.models.networks",
    "Box": "common.core.spaces",
    "Linf": "common.core.threats",
    "L2": "common.core.threats",
    "L1": "common.core.threats",
    "Rng": "common.base.rng",
    "Dataset": "common.core.data",
    "Transfer": "common.study.outcome",
    "CaromError": "common.base.errors",
    "as_textattack": "text.textattack.bridge",
    "from_textattack": "text.textattack.bridge",
    "augment": "text.augment",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from carom.common.api import attack as attack
    from carom.common.api import certify as certify
    from carom.common.api import defend as defend
    from carom.common.api import ensemble as ensemble
    from carom.common.api import get_attack as get_attack
    from carom.common.api import list_attacks as list_attacks
    from carom.common.api import list_defences as list_defences
    from carom.common.api import load_data as load_data
    from carom.common.api import load_model as load_model
    from carom.common.api import replay as replay
    from carom.common.api import transfer as transfer
    from carom.common.attacks.gradient.ascent import Ascent as Ascent
    from carom.common.attacks.gradient.transforms import TransformInfo as TransformInfo
    from carom.common.attacks.info import AttackInfo as AttackInfo
    from carom.common.base.errors import CaromError as CaromError
    from carom.common.base.rng import Rng as Rng
    from carom.common.core.batch import Access as Access
    from carom.common.core.batch import Batch as Batch
    from carom.common.core.batch import Family as Family
    from carom.common.core.batch import Goal as Goal
    from carom.common.core.data import Dataset as Dataset
    from carom.common.core.model import Model as Model
    from carom.common.core.problem import Problem as Problem
    from carom.common.core.problem import Result as Result
    from carom.common.core.spaces import Box as Box
    from carom.common.core.threats import L1 as L1
    from carom.common.core.threats import L2 as L2
    from carom.common.core.threats import Linf as Linf
    from carom.common.defences.detectors import Detector as Detector
    from carom.common.defences.export import export_module as export_module
    from carom.common.defences.info import DefenceInfo as DefenceInfo
    from carom.common.defences.transforms import InputTransform as InputTransform
    from carom.common.judging import robust as robust
    from carom.common.modality.contract import Modality as Modality
    from carom.common.models.networks import TorchModel as TorchModel
    from carom.common.robustness.outcome import Robust as Robust
    from carom.common.study.outcome import Transfer as Transfer
    from carom.common.study.replay import AdversarialSet as AdversarialSet
    from carom.common.study.replay import load_set as load_set
    from carom.common.surrogates.defended import train_defended as train_defended
    from carom.common.surrogates.files import load_surrogate as load_surrogate
    from carom.common.surrogates.files import save_surrogate as save_surrogate
    from carom.common.surrogates.lgv import lgv as lgv
    from carom.common.surrogates.substitute import substitute as substitute
    from carom.text.augment import augment as augment
    from carom.text.textattack.bridge import as_textattack as as_textattack
    from carom.text.textattack.bridge import from_textattack as from_textattack


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'carom' has no attribute {name!r}")
    value = getattr(import_module(f"carom.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
