"""Hugging Face models and their preprocessing, from a hub or a folder."""

from __future__ import annotations

from typing import Any

from torch import nn

from carom.common.base.environment import quiet
from carom.common.base.errors import CaromError
from carom.common.base.parameters import flag
from carom.common.base.specs import Spec, local_folder
from carom.common.loading.facts import known_facts
from carom.common.loading.model_folders import check_folder


def load_pretrained(auto: str, spec: Spec) -> nn.Module:
    """`hf:org/name@revision`, or a folder on disk, by the transformers class called `auto`, in fp32 and eval mode.

    `allow_pickle=true` admits weights that are no safetensors, `trust_remote_code=true` runs code of the repository.
    """
    import transformers

    where, revision, options = _pretrained(spec)
    safe = not flag(spec.parameters, "allow_pickle", f"hf:{spec.rest}")
    try:
        with quiet("transformers"):  # its advice to train what is missing: that is refused below
            loaded, told = getattr(transformers, auto).from_pretrained(
                where, use_safetensors=safe, output_loading_info=True, **revision, **options
            )
    except Exception as error:  # of many types: what a damaged folder makes of each model's own code
        raise CaromError(
            f"hf:{spec.rest}: cannot be loaded with {auto}: {_first_line(error)} Check the name, the revision and the "
            "network; a folder on disk works as well (hf:./folder). Weights that are pickles need ?allow_pickle=true."
        ) from error
    _check_whole(loaded, told, auto, spec)
    return loaded.float().eval()


def _check_whole(loaded: Any, told: dict[str, Any], auto: str, spec: Spec) -> None:
    """Refuse a checkpoint whose weights cover the model only in part: transformers draws the rest at random."""
    missing = sorted(told.get("missing_keys", ()))
    if not missing:
        return
    listed = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
    made = ", ".join(getattr(loaded.config, "architectures", None) or ()) or "another model"
    what = "a classification head, which would be made up at random" if "Classification" in auto else "random weights"
    kind = ". It is a recogniser of speech" if "CTC" in made else ""
    raise CaromError(
        f"hf:{spec.rest}: its weights hold no {listed}: loaded with {auto}, it gets {what}. The checkpoint is of "
        f"{made}{kind}. Name one that was trained to classify, or train the head and save the whole model."
    )


def load_processor(auto: str, spec: Spec) -> Any:
    """The tokeniser or preprocessor that belongs to `load_pretrained`'s model."""
    import transformers

    where, revision, options = _pretrained(spec)
    try:
        with quiet("transformers"):  # its advice on faster processors: what they do is checked, not how fast
            return getattr(transformers, auto).from_pretrained(where, **revision, **options)
    except Exception as error:
        raise CaromError(
            f"hf:{spec.rest}: its preprocessing cannot be loaded with {auto}: {_first_line(error)} "
            "Save it beside the weights with save_pretrained."
        ) from error


def _pretrained(spec: Spec) -> tuple[str, dict[str, str], dict[str, bool]]:
    """(name or folder, {"revision": ...} if given, further options). A folder is looked through first: it sends nobody
    elsewhere, and its configuration asks for no more than its weights hold."""
    known_facts(spec.parameters, ("allow_pickle", "trust_remote_code"), f"hf:{spec.rest}")
    options = {"trust_remote_code": flag(spec.parameters, "trust_remote_code", f"hf:{spec.rest}")}
    if (folder := local_folder(spec.rest, "a model")) is not None:
        check_folder(folder)
        return str(folder), {}, {**options, "local_files_only": True}
    name, mark, revision = spec.rest.partition("@")
    return name, {"revision": revision} if mark else {}, options


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    return line if line.endswith(".") else line + "."
