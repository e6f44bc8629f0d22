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
    "AdversarialSet": "recorded",
    "attack": "library",
    "ensemble": "library",
    "get_attack": "library",
    "list_attacks": "library",
    "load_data": "library",
    "load_model": "library",
    "replay": "library",
    "transfer": "library",
    "lgv": "surrogates",
    "substitute": "surrogates",
    "save_surrogate": "surrogates",
    "load_surrogate": "surrogates",
    "as_textattack": "text.bridge",
    "from_textattack": "text.bridge",
    "Access": "problem",
    "Batch": "problem",
    "Family": "problem",
    "Goal": "problem",
    "Problem": "problem",
    "Result": "problem",
    "Ascent": "ascent",
    "Model": "models",
    "Dataset": "data",
    "Transfer": "transfer",
    "CaromError": "errors",
    "augment": "text.augment",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from carom.common.ascent import Ascent as Ascent
    from carom.common.data import Dataset as Dataset
    from carom.common.errors import CaromError as CaromError
    from carom.common.library import attack as attack
    from carom.common.library import ensemble as ensemble
    from carom.common.library import get_attack as get_attack
    from carom.common.library import list_attacks as list_attacks
    from carom.common.library import load_data as load_data
    from carom.common.library import load_model as load_model
    from carom.common.library import replay as replay
    from carom.common.library import transfer as transfer
    from carom.common.models import Model as Model
    from carom.common.problem import Access as Access
    from carom.common.problem import Batch as Batch
    from carom.common.problem import Family as Family
    from carom.common.problem import Goal as Goal
    from carom.common.problem import Problem as Problem
    from carom.common.problem import Result as Result
    from carom.common.recorded import AdversarialSet as AdversarialSet
    from carom.common.surrogates import lgv as lgv
    from carom.common.surrogates import load_surrogate as load_surrogate
    from carom.common.surrogates import save_surrogate as save_surrogate
    from carom.common.surrogates import substitute as substitute
    from carom.common.transfer import Transfer as Transfer
    from carom.text.augment import augment as augment
    from carom.text.bridge import as_textattack as as_textattack
    from carom.text.bridge import from_textattack as from_textattack


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'carom' has no attribute {name!r}")
    home = _HOMES[name]
    value = getattr(import_module(f"carom.{home}" if "." in home else f"carom.common.{home}"), name)
    globals()[name] = value
    return value
