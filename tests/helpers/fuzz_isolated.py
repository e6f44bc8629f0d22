"""Calls a function where it can do no harm, and says what it tried: in a process of its own, without a network, with a
limit of time and memory."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

SECONDS = 60
MEMORY = 2 << 30

FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn", "socket.connect",
             "socket.getaddrinfo", "socket.gethostbyname", "socket.bind")  # fmt: skip
"""Events of Python's audit that nothing that is only read may cause."""


def outcome(call: Callable[[], object], folder: Path) -> str:
    """ "sound", "refused", or what went wrong. The call runs in `folder`, and may write nowhere but there."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        said = "stopped"
        try:
            said = _inside(call, folder)
        finally:
            os.write(writing, pickle.dumps(said[-1500:]))
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return pickle.loads(answer) if answer else "no answer"


def _inside(call: Callable[[], object], folder: Path) -> str:
    from carom.common.base.errors import CaromError

    os.chdir(folder)
    tried: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in FORBIDDEN or (event == "import" and arguments[0] == "fuzz_sentinel"):
            tried.append(f"{event} {arguments[:2]!r:.200}")
            raise PermissionError(f"{event} is forbidden here")

    sys.addaudithook(watch)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = "sound"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            call()
        except CaromError as error:
            end = "refused" if str(error).strip() else "an error without words"
        except BaseException:
            end = traceback.format_exc()
    if tried:
        return f"tried {tried}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began) << 10
    return f"took {grown >> 20} MB" if grown > MEMORY else end
