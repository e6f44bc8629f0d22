"""TextAttack without a network: it is imported, builds its recipes and runs with what this machine holds.

TextAttack 0.3.11 fetches NLTK's data when it is imported and again in some constructors, and vectors, taggers and
language models when recipes are built or first run. Here nothing is fetched: stop words and WordNet that NLTK does not
find are Carom's own, what else is missing is named. Files that were fetched before are used from where they lie.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from carom.common.base.environment import cache_folder, quiet
from carom.common.base.errors import CaromError
from carom.common.base.files import write_atomically
from carom.text.language.wordnet import synsets
from carom.text.words import STOP_WORDS

INSTALL = "pip install 'carom[textattack]'"


class Unreachable(OSError):
    """A connection that was not opened."""


class Unfetched(OSError):
    """A file of TextAttack's server that is not on this machine."""


@dataclass
class Guard:
    """Refuses connections of one thread while it is closed."""

    thread: int = field(default_factory=threading.get_ident)
    closed: bool = True

    def refuse(self, where: Any) -> None:
        if self.closed and threading.get_ident() == self.thread:
            raise Unreachable(f"no connection to {where} is opened")

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """For the model under attack, which may well be asked over a network."""
        self.closed = False
        try:
            yield
        finally:
            self.closed = True


@contextlib.contextmanager
def offline() -> Iterator[Guard]:
    """Nothing inside opens a connection or fetches a file, as far as this thread goes; all is put back afterwards."""
    import huggingface_hub
    import nltk
    import transformers.utils.hub

    guard, look_up, connect = Guard(), socket.getaddrinfo, socket.socket.connect

    def getaddrinfo(host: Any, *args: Any, **named: Any) -> Any:
        guard.refuse(host)
        return look_up(host, *args, **named)

    def connecting(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            guard.refuse(address)
        return connect(self, address)

    swaps: list[tuple[Any, str, Any]] = [
        (socket, "getaddrinfo", getaddrinfo),
        (socket.socket, "connect", connecting),
        (huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        (nltk, "download", lambda *_, **__: False),
    ]
    if hasattr(transformers.utils.hub, "_is_offline_mode"):
        swaps.append((transformers.utils.hub, "_is_offline_mode", True))
    if _loaded():
        import textattack.shared.utils

        swaps += [
            (module, name, _at_hand(index))
            for module in (textattack.shared.utils, textattack.shared.utils.install)
            for index, name in ((0, "download_from_s3"), (1, "download_from_url"))
        ]
    with contextlib.ExitStack() as stack:
        for owner, name, value in swaps:
            stack.enter_context(patch.object(owner, name, value))
        stack.enter_context(quiet("textattack.shared.utils.install"))  # its remarks on models that it does not know
        yield guard


def _at_hand(index: int) -> Callable[..., str]:
    """In place of a download: the file in TextAttack's cache that the argument of that index names."""

    def find(*names: str, **_: Any) -> str:
        from textattack.shared.utils import install

        path = Path(install.TEXTATTACK_CACHE_DIR) / names[index]
        if not path.exists():
            raise Unfetched(str(path))
        return str(path)

    return find


def _loaded() -> bool:
    import sys

    return "textattack.shared.utils" in sys.modules


@cache
def textattack() -> Any:
    """The library. Raises CaromError where it is not installed, or cannot be imported beside what is."""
    if importlib.util.find_spec("textattack") is None:
        raise CaromError(f"this needs TextAttack: {INSTALL}")
    import nltk

    _find_stop_words()
    mark = Path(os.environ.get("TA_CACHE_DIR", Path.home() / ".cache" / "textattack")) / "post_install_check_3"
    fetched = mark.exists()
    if not fetched:  # it asks for NLTK's data, unless it believes that it did before
        write_atomically(mark, b"")
    known = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    enabled = [logger for logger in known if not logger.disabled]
    try:
        with offline(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            import textattack
    except (ImportError, LookupError, AttributeError) as error:
        first = str(error).strip().splitlines()[0]
        raise CaromError(
            f"TextAttack cannot be imported here ({first}). It needs transformers below 5: {INSTALL}"
        ) from error
    finally:
        for logger in enabled:  # its configuration of logging disables all others
            logger.disabled = False
        if not fetched:
            mark.unlink(missing_ok=True)
    try:
        nltk.data.find("corpora/wordnet.zip/wordnet/")
    except LookupError:
        try:
            nltk.data.find("corpora/wordnet")
        except LookupError:
            from textattack.transformations.word_insertions import word_insertion_random_synonym
            from textattack.transformations.word_swaps import word_swap_wordnet

            for module in (word_swap_wordnet, word_insertion_random_synonym):
                module.wordnet = _WordNet()
    return textattack


def _find_stop_words() -> None:
    """Puts Carom's list behind the places where NLTK looks, if it finds none of its own."""
    import nltk

    try:
        nltk.corpus.stopwords.words("english")
    except LookupError:
        folder = cache_folder() / "nltk"
        path = folder / "corpora" / "stopwords" / "english"
        if not path.exists():
            write_atomically(path, "\n".join(sorted(STOP_WORDS)).encode())
        nltk.data.path.append(str(folder))


class _WordNet:
    """What TextAttack asks of NLTK's WordNet, from the table that ships here: synsets of single words."""

    def langs(self) -> list[str]:
        return ["eng"]

    def synsets(self, word: str, lang: str = "eng") -> list[Any]:
        return [_synset(lemmas) for lemmas in synsets(word)]


def _synset(lemmas: tuple[str, ...]) -> Any:
    return SimpleNamespace(
        lemma_names=lambda lang="eng": list(lemmas),
        lemmas=lambda lang="eng": [SimpleNamespace(name=lambda lemma=lemma: lemma) for lemma in lemmas],
    )


def lacking(error: BaseException | None, who: str) -> CaromError | None:
    """What an error says is missing on this machine, and how it can be had; None if it says nothing of the kind."""
    while error is not None:
        if (said := _lacks(error)) is not None:
            return CaromError(f"{who} lacks {said} Carom fetches nothing by itself.")
        error = error.__cause__ or error.__context__
    return None


def _asked_for(error: BaseException) -> str | None:
    """The model that a call on the way to an error was to load: the error itself does not always say."""
    frame = error.__traceback__
    while frame is not None:
        for name in ("pretrained_model_name_or_path", "path_or_repo_id"):
            if isinstance(asked := frame.tb_frame.f_locals.get(name), str):
                return asked
        frame = frame.tb_next
    return None


def _lacks(error: BaseException) -> str | None:
    text = " ".join(str(error).split())
    if isinstance(error, Unfetched):
        return f"a file of TextAttack's server: {text}. Let TextAttack itself fetch it, or put it there."
    if isinstance(error, ModuleNotFoundError):
        named = re.search(r"module named [`']([\w.]+)", text)
        package = (error.name or (named[1] if named else text)).split(".")[0].replace("_", "-")
        return f"the package {package}: pip install {package}."
    if isinstance(error, LookupError) and (found := re.search(r"nltk\.download\('([^']+)'\)", text)):
        return f"NLTK's {found[1]}: python -m nltk.downloader {found[1]}."
    if isinstance(error, Unreachable):
        return f"something from a network ({text})."
    if isinstance(error, FileNotFoundError):
        return f"a file: {error.filename or text[:200]}."
    if isinstance(error, OSError) and ("huggingface.co" in text or "offline" in text.lower()):
        name = _asked_for(error) or "NAME"
        return f"the model {name} of the Hugging Face hub. Fetch it first: hf download {name}."
    return None
