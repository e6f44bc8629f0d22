"""Hugging Face models and their preprocessing, from a hub or a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.environment import quiet_loading
from carom.common.base.errors import CaromError
from carom.common.base.parameters import flag
from carom.common.base.specs import Spec, local_folder
from carom.common.loading.facts import called, known_facts
from carom.common.loading.model_folders import check_folder
from carom.common.models.company import differ


def load_pretrained(auto: str, spec: Spec) -> nn.Module:
    """`hf:org/name@revision`, or a folder on disk, by the transformers class called `auto`, in fp32 and eval mode.

    `allow_pickle=true` admits weights that are no safetensors, `trust_remote_code=true` runs code of the repository.
    """
    import transformers

    where, revision, options = _pretrained(spec)
    safe = not flag(spec.parameters, "allow_pickle", f"hf:{spec.rest}")
    try:
        with quiet_loading():  # its advice to train what is missing: that is refused below
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
        with quiet_loading():  # its advice on faster processors: what they do is checked, not how fast
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


def pipeline_parts(pipeline: Any, task: str, part: str, facts: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """(network, preprocessor) of a pipeline of transformers for `task`, whose preprocessor it calls `part`.

    Raises CaromError for one that does more with them than pipelines of that task do.
    """
    who, model, preprocessor = called(pipeline, facts), pipeline.model, getattr(pipeline, part, None)
    fact = part if part == "tokenizer" else "processor"
    by_hand = f"hand in its network: load_model(pipe.model, {fact}=pipe.{part})"
    if pipeline.task != task:
        raise CaromError(
            f"{who} is a pipeline for {pipeline.task}, and one for {task} is wanted. Load it as a model of the modality "
            "that it is for, or make another: carom attacks pipelines for text-, image- and audio-classification."
        )
    if not type(pipeline).__module__.startswith("transformers.pipelines."):
        raise CaromError(f"{who} is a pipeline of your own, whose preprocessing cannot be read: {by_hand}.")
    if not isinstance(model, nn.Module) or preprocessor is None:
        raise CaromError(f"{who} has no {part if isinstance(model, nn.Module) else 'torch module'}: {by_hand}.")
    if dtypes := {str(p.dtype) for p in model.parameters()} - {"torch.float32"}:
        raise CaromError(
            f"{who} computes in {', '.join(sorted(dtypes))}, carom in float32: make it with dtype=torch.float32, or "
            "convert its network: pipe.model.float()."
        )
    names = label_names(model)
    if len(names) < 2 or getattr(model.config, "problem_type", None) == "regression":
        raise CaromError(
            f"{who} answers {'one number' if len(names) < 2 else 'numbers'}, not classes: {by_hand[:-1]}, "
            "threshold=0.5), where the second class begins."
        )
    if len(set(names)) < len(names):
        raise CaromError(f"{who} has two labels of one name: give each its own in pipe.model.config.id2label.")
    return model, preprocessor


def label_names(model: Any) -> list[str]:
    """The labels of a transformers model in the order of its outputs."""
    labels = model.config.id2label
    return [str(labels[k]) for k in sorted(labels)]


def check_pipeline(pipeline: Any, given: Sequence[Any], ask: Callable[[], Tensor], who: str, remedy: str) -> None:
    """Raise CaromError unless a pipeline scores the inputs it is `given` as Carom's model does, `ask`() -> float[N, C]."""
    names = label_names(pipeline.model)
    try:
        with quiet_loading():
            said = pipeline(list(given), top_k=len(names), function_to_apply="none")
    except Exception as error:  # of many types: whatever its preprocessing makes of plain inputs
        raise CaromError(f"{who} cannot be asked: {_first_line(error)} {remedy}") from error
    # Pipelines answer in the order of the scores: what a score belongs to is its label's name.
    scores = [{str(one["label"]): float(one["score"]) for one in answer} for answer in said]
    theirs = torch.tensor([[answer[name] for name in names] for answer in scores])
    size = float((theirs - theirs.mean(1, keepdim=True)).abs().max()) or 1.0
    with torch.no_grad():
        ours = ask().cpu().float()
    if differ(theirs / size, ours / size):
        raise CaromError(f"{who} answers otherwise than its network on the same inputs. {remedy}")
