"""A `countersign dev` for the scripts beside this file: started, waited for, and ended as Ctrl-C does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A debug binary, on a machine whose cores others use, with a cluster to create.
READY_WITHIN = 300


def binary(arguments):
    """Takes `-b BINARY` from the front of the arguments: the binary, and the other arguments."""
    if arguments[:1] == ["-b"] and len(arguments) > 1:
        path, arguments = Path(arguments[1]), arguments[2:]
    else:
        path = ROOT / "target/debug/countersign"
    if not path.is_file():
        fail(f"there is no {path}: `cargo test --no-run` builds it")
    return path.resolve(), arguments


@contextmanager
def dev_server(countersign, work, *flags, data_dir=".countersign"):
    """Runs `countersign dev` in the directory `work`; gives the environment that its dev.env describes.

    Ends it by SIGINT; it must succeed, and its PostgreSQL must have ended with it. What it printed is shown
    where anything fails.
    """
    # Else a signal would end this process alone.
    signal.signal(signal.SIGTERM, lambda *_: fail("ended by a signal"))
    log = work / "dev.log"
    with log.open("w") as output:
        command = [countersign, "dev", *flags]
        process = subprocess.Popen(
            command, cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        environment = wait_until_ready(process, work / data_dir / "dev.env")
        postgres = children(process.pid)
        if not postgres:
            fail("countersign dev has no PostgreSQL")
        yield environment
        process.send_signal(signal.SIGINT)
        if status := process.wait(timeout=60):
            fail(f"countersign dev ended with {status}")
        if left := [pid for pid in postgres if Path(f"/proc/{pid}").exists()]:
            fail(f"PostgreSQL is still there: process {left[0]}")
        done("countersign dev ended in good order, and its PostgreSQL with it")
    except BaseException:
        print("\n-- what countersign dev printed", log.read_text(), sep="\n", flush=True)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(process, env_file):
    deadline = time.monotonic() + READY_WITHIN
    # Written last: everything is ready when it is there. Whole or not at all, so that it can be read at once.
    while not env_file.exists():
        if process.poll() is not None:
            fail(f"countersign dev ended by itself, with {process.returncode}")
        if time.monotonic() > deadline:
            fail(f"countersign dev was not ready within {READY_WITHIN} s")
        time.sleep(0.1)
    settings = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
    return {**os.environ, **settings}


def children(parent):
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [pid for pid, ppid in pairs if ppid == str(parent)]


def run(command, what, **options):
    """Runs a command without input; fails where it does."""
    sys.stdout.flush()
    if status := subprocess.run(command, stdin=subprocess.DEVNULL, **options).returncode:
        fail(f"{what} failed with status {status}")


def have(*programs):
    return all(shutil.which(program) for program in programs)


def not_run(what, reason):
    """Says that a check was not run, here and in the list that `.ci/run` closes with."""
    line = f"{what}: {reason}"
    print(f"not run: {line}", flush=True)
    if listed := os.environ.get("CI_NOT_RUN"):
        with open(listed, "a") as file:
            print(line, file=file)


def done(what):
    print("ok ", what, flush=True)


def fail(what):
    sys.exit(f"{Path(sys.argv[0]).name}: {what}")
