"""`carom doctor`: what works on this machine."""

from __future__ import annotations

import importlib
import os
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from carom.common.loading.boosters.read import SAVE
from carom.common.modality.installed import get_modality, modality_names
from carom.common.runs.run import PACKAGES, version_of
from carom.common.work.processes import cores


def examine() -> list[dict[str, Any]]:
    """[{"what", "found", "ok", "needed"}]"""
    checks: list[dict[str, Any]] = []

    def check(what: str, look: Callable[[], str], needed: bool = True) -> None:
        try:
            checks.append({"what": what, "found": look(), "ok": True, "needed": needed})
        except Exception as error:  # broken wheels raise OSError and RuntimeError as well as ImportError
            checks.append({"what": what, "found": f"{type(error).__name__}: {error}", "ok": False, "needed": needed})

    check("python", platform.python_version)
    for package in PACKAGES:
        check(package, partial(_imported, package))
    check("device", _device)
    check("threads", lambda: f"{cores()} CPU cores")
    check("working folder can be written", _writable)
    for name in modality_names():
        check(f"modality {name}", partial(_modality, name))
    check("extra: textattack", lambda: version("textattack"), needed=False)  # importing it takes seconds
    check("extra: boosting", lambda: ", ".join(f"{kind} {_version(kind)}" for kind in SAVE), needed=False)
    return checks


def _version(package: str) -> str:
    """Of a package that may come as another distribution: xgboost as xgboost-cpu."""
    return str(importlib.import_module(package).__version__)


def _imported(package: str) -> str:
    importlib.import_module({"scikit-learn": "sklearn"}.get(package, package))
    return version_of(package) or "installed"


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu (torch sees no CUDA device)"


def _writable() -> str:
    with tempfile.NamedTemporaryFile(dir="."):
        return os.getcwd()


def _modality(name: str) -> str:
    modality = get_modality(name)
    missing = [r.name for r in modality.recipes.values() if not r.checkpoint.exists()]
    if missing:
        raise FileNotFoundError(f"checkpoints are missing: {', '.join(missing)}")
    return f"{len(modality.attacks)} attacks, {len(modality.recipes)} models"
