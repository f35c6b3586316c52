# SPDX-License-Identifier: BSD-2-Clause
"""Starts echo servers and load for the benchmarks, and reads what they say.

Used by bench/run, from its one thread. Every child is pinned to one CPU, has a deadline, dies with
this process, and is stopped by its context manager however the block ends.
"""

import contextlib
import ctypes
import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time

START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 90  # for ten thousand of them, or a thousand to fill
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)
LISTENING = re.compile(r"listening (?:(tcp|udp) )?127\.0\.0\.1:(\d+)$")


class MeasurementError(Exception):
    """A server or client that did not do what it should; the text says which and why."""


def pinned(cpu):
    """What a child does before exec: run on this CPU only and die with its parent."""

    def prepare():
        os.sched_setaffinity(0, {cpu})
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


def read_until_ready(process, what, timeout_s):
    """The lines that a child prints up to `ready`."""
    deadline = time.monotonic() + timeout_s
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not output.endswith(b"ready\n"):
            if not selector.select(max(0, deadline - time.monotonic())):
                raise MeasurementError(f"{what}: not ready after {timeout_s} s")
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                raise MeasurementError(f"{what}: ended before it was ready")
            output += piece
    return output.decode().splitlines()[:-1]


def stop(process, what):
    """SIGTERM and wait; SIGKILL, and an error, when that does not help."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise MeasurementError(f"{what}: still there {STOP_TIMEOUT_S} s after SIGTERM") from None


@contextlib.contextmanager
def running(argv, cpu, what, timeout_s):
    """A child that prints `ready`; gives (process, lines before it). Stopped at the end."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True, preexec_fn=pinned(cpu))
        try:
            try:
                yield process, read_until_ready(process, what, timeout_s)
            except MeasurementError as error:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise MeasurementError(f"{error}: {said[-1]}" if said else str(error)) from None
        finally:
            process.stdout.close()
            stop(process, what)


class Server:
    """A running echo server: its ports and its memory."""

    def __init__(self, process, lines):
        self.pid = process.pid
        self.ports = {}
        for line in lines:
            match = LISTENING.search(line)
            if match:
                for protocol in [match[1]] if match[1] else ["tcp", "udp"]:
                    self.ports[protocol] = int(match[2])

    def private_bytes(self):
        """Memory of the process that it shares with nobody, in bytes."""
        total = 0
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Private_"):
                    total += int(line.split()[1]) * 1024
        return total


@contextlib.contextmanager
def server(argv, cpu):
    """A running Server."""
    what = os.path.basename(argv[0])
    with running(argv, cpu, what, START_TIMEOUT_S) as (process, lines):
        yield Server(process, lines)


@contextlib.contextmanager
def held_connections(program, port, options, cpu):
    """Connections held by the flood program; gives its report as a dictionary."""
    argv = [program, "-p", str(port), *options]
    with running(argv, cpu, os.path.basename(program), CONNECT_TIMEOUT_S) as (_, lines):
        yield json.loads(lines[-1])


def echotest(program, port, options, duration_s, cpu):
    """Run echotest for one iteration; its JSON object as a dictionary."""
    argv = [program, "--json", "-i", "1", "--duration", str(duration_s), "--cpus", str(cpu),
            *options, f"127.0.0.1:{port}"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=duration_s + CONNECT_TIMEOUT_S, start_new_session=True,
            preexec_fn=pinned(cpu))
    except subprocess.TimeoutExpired:
        raise MeasurementError("echotest: did not end in time") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise MeasurementError(
            f"echotest: exit status {done.returncode}" + (f": {said[-1]}" if said else ""))
    return json.loads(done.stdout)
