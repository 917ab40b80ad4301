"""Run a command, and end it when the parent process is gone.

A script on the standard library alone. It runs in its own session, so that Ctrl-C does not reach the command:

    orphan_guard.py [--detach] [--scratch DIR] --log FILE --parent PID -- COMMAND…

It prints the command's process id. Its standard input is a pipe that the parent holds open; when the pipe ends, even
by SIGKILL of the parent, the guard ends the command.
--detach   exit and leave the command running
--scratch  remove this folder if the parent is gone; a living parent removes it itself
"""

import argparse
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading

GRACE_S = 10.0
CHECK_S = 1.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h

parent_gone = threading.Event()


def main() -> None:
    """Run the command; never returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--scratch")
    parser.add_argument("--log", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()

    with open(args.log, "ab") as log:
        command = subprocess.Popen(
            args.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # safe between fork and exec: this process still has a single thread
            preexec_fn=None if args.detach else _die_with_the_guard,  # noqa: PLW1509
        )
    print(command.pid, flush=True)
    if args.detach:
        os._exit(0)
    threading.Thread(target=_exit_with, args=(command,), daemon=True).start()
    while os.getppid() == args.parent:
        # a forked child of the parent may hold the pipe open, too, so check the parent's id as well
        if select.select([sys.stdin], [], [], CHECK_S)[0]:
            break
    parent_gone.set()
    _end(command, args.scratch)


def _exit_with(command: "subprocess.Popen[bytes]") -> None:
    code = command.wait()
    if not parent_gone.is_set():
        os._exit(code if code >= 0 else 128 - code)


def _end(command: "subprocess.Popen[bytes]", scratch: str | None) -> None:
    if scratch:
        command.kill()
    else:
        command.terminate()
    try:
        command.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        command.kill()
        command.wait()
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)


def _die_with_the_guard() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
