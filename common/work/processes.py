"""Several processes on one study: each loads it anew, and they share its units through the claims of the store.

A helper is `python -m carom.common.runs.helper`, given the study on its standard input. It ends when that closes: a parent
that was killed leaves nobody behind. Nothing comes back from it but what it writes into the store, so the outcome is
the one of a single process, and a helper that fails costs nothing but its help: its units are done by the others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import torch

from carom.common.base.notices import notice

HELPER = "carom.common.runs.helper"

NOTICED = "carom: note: "
"""Begins what a helper notices, on its standard error."""


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def helped(study: str, workers: int) -> Iterator[None]:
    """Within the block, `workers - 1` further processes work on a resolved study, given as JSON; the cores are divided."""
    if workers == 1:
        yield
        return
    threads = torch.get_num_threads()
    share = max(1, cores() // workers)
    helpers = [_start(study, place, share) for place in range(1, workers)]
    try:
        torch.set_num_threads(share)
        yield
    finally:
        torch.set_num_threads(threads)
        for helper in helpers:
            _end(*helper)


def _start(study: str, place: int, threads: int) -> tuple[subprocess.Popen[str], IO[str]]:
    command = [sys.executable, "-P", "-m", HELPER, str(place), str(threads)]
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill up and stop it
    helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, text=True)
    assert helper.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already; `_end` says why
        helper.stdin.write(study + "\n")
        helper.stdin.flush()
    return helper, errors


def _end(helper: subprocess.Popen[str], errors: IO[str]) -> None:
    """End a helper, and say what it has noticed and why it ended early, if it did."""
    assert helper.stdin is not None
    with errors, contextlib.suppress(BrokenPipeError), helper.stdin:
        early = helper.poll() is not None
        if not early:  # all is done: it is looking up what the others computed
            helper.terminate()
            helper.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    for line in said:
        if line.startswith(NOTICED):
            notice(line.removeprefix(NOTICED))
    if early and helper.returncode:
        notice(f"a helper process ended early ({_why(helper.returncode, said)}); the others did its work.")


def _why(code: int, said: Sequence[str]) -> str:
    """In words. A process that the system stops, often for its memory, has no time to say anything itself."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        return f"killed by signal {-code}, {name}"
    return next((line for line in reversed(said) if not line.startswith(NOTICED)), f"exit code {code}")
