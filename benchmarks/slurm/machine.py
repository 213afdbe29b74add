"""Processes and files that both systems need."""

import os
import socket
import statistics
import subprocess
import time

PATIENCE_S = 60


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition, patience_s=PATIENCE_S, pause_s=0.02):
    """Looks at a condition until it holds, and gives what it gave."""
    end = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience_s} s")
        time.sleep(pause_s)
    return value


def start(words, log, environment):
    """Starts a daemon in a session of its own; what it says goes to a file."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )


def stop(process):
    """Ends a daemon in good order, and otherwise by force."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def many(words, count, at_once, environment):
    """Runs a command so many times, so many at once, each with its number behind it. Gives the seconds it took."""
    numbers = "\n".join(str(number) for number in range(count)).encode()
    begin = time.monotonic()
    subprocess.run(
        ["xargs", "-n", "1", "-P", str(at_once), *words],
        input=numbers, stdout=subprocess.DEVNULL, check=True, env=environment,
    )
    return time.monotonic() - begin


def flush_ms(folder):
    """What it costs to have 4 KiB on disk in a folder: the median of 100, in milliseconds."""
    path = os.path.join(folder, "flush")
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    taken = []
    for _ in range(100):
        begin = time.perf_counter()
        os.write(file, b"\0" * 4096)
        os.fdatasync(file)
        taken.append((time.perf_counter() - begin) * 1000)
    os.close(file)
    os.unlink(path)
    return statistics.median(taken)
