"""Language models as the attacker's own tools: words that fit a place, how alike two texts are, how likely one is.

None of them is the model under attack, and none is fetched unless it is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.specs import Spec, parse
from carom.common.loading.pretrained import load_pretrained, load_processor
from carom.text.language.minilm import minilm

TOGETHER = 16  # texts of like length whose vectors are made at once


def _spec(lm: str) -> Spec:
    return parse(lm, ("hf",)) if lm.startswith("hf:") else Spec("hf", lm)


@cache
def language_model(auto: str, lm: str) -> tuple[Any, Any]:
    model, tokenizer = load_pretrained(auto, _spec(lm)), load_processor("AutoTokenizer", _spec(lm))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model.requires_grad_(False), tokenizer


def token_limit(model: Any, tokenizer: Any) -> int:
    known = (getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min((n for n in known if n and n < 1 << 20), default=512) - 2


@lru_cache(maxsize=1 << 16)
def _remembered(text: str) -> list[Tensor | None]:
    return [None]


def sentence_vectors(texts: Sequence[str]) -> Tensor:
    """float32[N, 384]: MiniLM's vectors of whole texts, of length 1 (Wang et al. 2020; Reimers and Gurevych 2019)."""
    cells = {text: _remembered(text) for text in dict.fromkeys(texts)}
    new = [text for text, cell in cells.items() if cell[0] is None]
    if new:
        for text, vector in zip(new, _sentence_vectors(new), strict=True):
            cells[text][0] = vector.clone()
    known = [vector for text in texts if (vector := cells[text][0]) is not None]
    return torch.stack(known) if known else torch.zeros(0, 384)


@lru_cache(maxsize=1 << 14)
def sentence_vector(text: str) -> Tensor:
    """float32[384]: the same of one text, read alone: to the last digit what it is whatever else is asked."""
    return _sentence_vectors([text])[0]


def _sentence_vectors(texts: Sequence[str]) -> Tensor:
    """Texts of like length go through the model together: what is padded is computed too."""
    model, encoder = minilm()
    ids, spans = encoder.encode([text.encode("utf-8", "replace").decode("utf-8") for text in texts])
    lengths = torch.tensor([len(own) for own in spans])
    vectors = torch.zeros(len(texts), model.config.hidden_size)
    for part in lengths.argsort(stable=True).split(TOGETHER):
        width = int(lengths[part].max())
        mask = torch.arange(width) < lengths[part, None]
        with torch.inference_mode():
            states = model(input_ids=ids[part, :width], attention_mask=mask.long()).last_hidden_state
        vectors[part] = F.normalize((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True), dim=1)
    return vectors


@lru_cache(maxsize=1 << 14)
def perplexity(lm: str, text: str, masked: bool = False) -> float:
    """exp of the mean negative log-likelihood of the tokens: by a causal model or, `masked`, by a masked one that reads
    the text as it is (a pseudo-perplexity in one pass, lower than that of masking each token). inf for no tokens."""
    model, tokenizer = language_model("AutoModelForMaskedLM" if masked else "AutoModelForCausalLM", lm)
    encoded = tokenizer(
        text,
        return_tensors="pt",
        return_token_type_ids=False,  # some decoders would add them up
        truncation=True,
        max_length=token_limit(model, tokenizer),
    )
    ids = encoded["input_ids"]
    if ids.shape[1] < 2:
        return float("inf")
    with torch.inference_mode():
        likely = model(**encoded).logits.float().log_softmax(2)
    if masked:
        inside = torch.tensor([number not in tokenizer.all_special_ids for number in ids[0].tolist()])
        own = likely[0].gather(1, ids[0, :, None]).squeeze(1)[inside]
    else:
        own = likely[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1)
    return float((-own.mean()).exp()) if len(own) else float("inf")
