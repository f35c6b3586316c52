#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every n-th allocation of a daemon built with fault injection fails, for many n: it may refuse to start, with a message
and a status, and it may end connections and drop datagrams; what comes back must be right, a connection that waits for
memory must go on, and the daemon must stop in good order (so that a leak checker has its say). Prints TAP.

usage: alloc-faults.py KSFD"""
import os
import signal
import socket
import subprocess
import sys

KSFD = sys.argv[1]
# (period, allocations that succeed before). Without those the small periods only prevent the start.
FAULTS = [(period, 0) for period in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)] + [
    (period, skip) for period in (2, 3, 5, 8, 13, 34, 89, 610) for skip in (100, 101)]
CLIENTS = 12
PATIENCE_S = 60


def start(period, skip):
    """The daemon and its port, or None when it refused to start."""
    environment = dict(os.environ, KSF_FAULT=f"alloc={period},skip={skip}")
    daemon = subprocess.Popen([KSFD, "kecho:port=0,listen=127.0.0.1,linger_ms=0"], env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    port = None
    for line in daemon.stdout:
        if line.startswith("kecho: listening tcp"):
            port = int(line.rsplit(":", 1)[1])
        if line.strip() == "ready":
            return daemon, port
    _, errors = daemon.communicate(timeout=PATIENCE_S)
    if daemon.returncode != 71 or errors.count("\n") != 1:
        raise AssertionError(f"start failed with status {daemon.returncode}: {errors}")
    return None, None


def stream(port, number):
    """One client; True when all its bytes came back, False when the connection ended early."""
    data = bytes((number + n * 7) % 251 for n in range(200000))
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
            for begin in range(0, len(data), 40000):
                sock.sendall(data[begin:begin + 40000])
                while len(received) < begin + 40000:
                    part = sock.recv(65536)
                    if not part:
                        return False
                    received += part
                    if received != data[:len(received)]:
                        raise AssertionError("a wrong byte came back")
    except ConnectionError:
        return False
    return True


def datagrams(port):
    """How many of some datagrams came back."""
    answers = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        for n in range(20):
            data = bytes([n]) * (n * 100)
            sock.sendto(data, ("127.0.0.1", port))
            try:
                answer = sock.recv(65536)
            except TimeoutError:
                continue
            # A late answer to an earlier datagram is as good.
            if answer and answer != bytes([answer[0]]) * (answer[0] * 100):
                raise AssertionError("a wrong datagram came back")
            answers += 1
    return answers


def check(period, skip):
    daemon, port = start(period, skip)
    if daemon is None:
        return "refused to start"
    try:
        whole = sum(stream(port, number) for number in range(CLIENTS))
        answers = datagrams(port)
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=PATIENCE_S)
        if daemon.returncode != 0:
            raise AssertionError(f"stopped with status {daemon.returncode}: {errors}")
        return f"{whole} of {CLIENTS} streams whole, {answers} of 20 datagrams"
    finally:
        daemon.kill()
        daemon.wait()


def main():
    print(f"1..{len(FAULTS)}")
    failed = 0
    for number, (period, skip) in enumerate(FAULTS, 1):
        name = f"after {skip} allocations, every one of {period} fails"
        try:
            print(f"ok {number} - {name}: {check(period, skip)}", flush=True)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"not ok {number} - {name}\n# {error}", flush=True)
    return 1 if failed else 0


sys.exit(main())
