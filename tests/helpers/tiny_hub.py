"""Tiny random models of Hugging Face and their tokenizers, for tests that need one in the hub's own layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def pieces_of(texts: Iterable[str]) -> list[str]:
    """The words of some texts, and letters for all others."""
    words = sorted({word.lower() for text in texts for word in text.split()})
    return list(dict.fromkeys([*SPECIAL, *words, *LETTERS, *(f"##{letter}" for letter in LETTERS)]))


def word_pieces(pieces: Sequence[str], limit: int, pairs: bool = True) -> Any:
    """A tokenizer of these word pieces, the special ones first; of pairs with token types, as BERT has them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pair = {"pair": "[CLS] $A [SEP] $B:1 [SEP]:1"} if pairs else {}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)], **pair
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=limit, model_input_names=inputs, **special
    )


def bert(vocabulary: int, classes: Sequence[str] | None = None, layers: int = 2, seed: int = 0) -> Any:
    """A classifier of random weights, of two unnamed classes unless they are given."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    if classes is not None:
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: i for i, name in enumerate(classes)}
    return BertForSequenceClassification(config)


def masked_lm(words: Sequence[str], limit: int, lower: bool = False) -> tuple[Any, Any]:
    """(a masked language model of random weights, its tokenizer) over whole words, [PAD], [UNK] and [MASK] first."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "mask")}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit, **special)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=limit, **size)), fast
