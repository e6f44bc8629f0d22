"""A helper process of a run: `python -m carom.common.runs.helper`, given the study on its standard input."""

from __future__ import annotations

import os
import sys
import threading

import torch

from carom.common.base.errors import CaromError
from carom.common.base.memory import keep_freed_memory
from carom.common.base.notices import print_notices
from carom.common.runs.load import plan_of
from carom.common.study.config import Study
from carom.common.study.evaluate import evaluate
from carom.common.work.store import Store


def help_with(study: Study, place: int) -> None:
    """Work through a study, modality by modality, beginning elsewhere than the others do."""
    names = list(study.modalities)
    first = place * len(names) // study.workers
    for name in names[first:] + names[:first]:
        evaluate(plan_of(study, name), Store(study.store), study.batch, warn=lambda line: None)


def main() -> None:
    place, threads = map(int, sys.argv[1:])
    study = Study.model_validate_json(sys.stdin.readline())

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    print_notices(lambda line: print(line, file=sys.stderr, flush=True))
    keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        help_with(study, place)
    except CaromError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
