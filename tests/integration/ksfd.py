#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The daemon as its users meet it: command line, configuration file, errors and exit statuses, signals, statistics,
stopping under load. Prints TAP.

usage: ksfd.py KSFD ECHOTEST"""
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

KSFD, ECHOTEST = sys.argv[1:3]
EX_OK, EX_USAGE, EX_NOINPUT, EX_UNAVAILABLE, EX_CONFIG = 0, 64, 66, 69, 78
# Sanitizers slow everything down; no check here is about speed.
PATIENCE_S = 30


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failure(text)


class Daemon:
    """A running ksfd, its address lines, and what it writes later."""

    def __init__(self, *args):
        self.process = subprocess.Popen([KSFD, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.errors = [], []
        self.ready = threading.Event()
        for pipe, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors)):
            threading.Thread(target=self.collect, args=(pipe, lines), daemon=True).start()
        if not self.ready.wait(PATIENCE_S):
            self.process.kill()
            raise Failure(f"not ready: {self.lines} {self.errors}")

    def collect(self, pipe, lines):
        for line in pipe:
            lines.append(line.rstrip("\n"))
            if line == "ready\n":
                self.ready.set()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def port(self, address="127.0.0.1", proto="tcp"):
        for line in self.lines:
            found = re.fullmatch(rf"\w+: listening {proto} {re.escape(address)}:(\d+)", line)
            if found:
                return int(found.group(1))
        raise Failure(f"does not listen at {proto} {address}: {self.lines}")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=PATIENCE_S):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"still runs after {seconds} s") from error

    def stats(self):
        mark = len(self.lines)
        self.signal(signal.SIGUSR1)
        until(lambda: any(line.startswith("kecho.log_suppressed") for line in self.lines[mark:]), "no statistics")
        return {line.split()[0]: int(line.split()[1]) for line in self.lines[mark:] if line.startswith("kecho.")}


def until(condition, text, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(text)
        time.sleep(0.02)


def need_addresses(*addresses):
    """Linux has all of 127.0.0.0/8 on its loopback interface, FreeBSD what was configured."""
    for address in addresses:
        with socket.socket() as sock:
            try:
                sock.bind((address, 0))
            except OSError as error:
                raise Skip(f"this system has no address {address}") from error


def first_cpu():
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def run(*args):
    return subprocess.run([KSFD, *args], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def connect(port, address="127.0.0.1"):
    return socket.create_connection((address, port), timeout=PATIENCE_S)


def refused(port):
    """A connection that is not served: closed at once, in whatever way."""
    try:
        with connect(port) as sock:
            sock.sendall(b"x")
            return sock.recv(1) == b""
    except ConnectionError:
        return True


def echoes(port, address="127.0.0.1", data=b"hello"):
    with connect(port, address) as sock:
        sock.sendall(data)
        received = b""
        while len(received) < len(data):
            part = sock.recv(len(data))
            expect(part, "closed")
            received += part
    return received == data


def check_ready_line():
    with Daemon("kecho:port=0") as daemon:
        expect(daemon.lines[-1] == "ready", daemon.lines)
        addresses = [line for line in daemon.lines if "listening" in line]
        expect(len(addresses) in (2, 4), addresses)
        expect(echoes(daemon.port()), "no echo")
        expect(daemon.port(proto="udp") == daemon.port(), "TCP and UDP ports differ")


def check_list():
    result = run("--list")
    expect(result.returncode == EX_OK, result)
    for word in ("kecho:", "port", "default 60007", "0..65535", "txhiwat", "allow", "run-time"):
        expect(word in result.stdout, word)


def check_version_and_help():
    expect(run("-V").stdout.startswith("ksfd "), "version")
    expect(run("-h").stdout.startswith("usage: ksfd"), "help")


BAD_COMMAND_LINES = [
    ([], EX_USAGE, "no service"),
    (["nosuch"], EX_USAGE, "no service 'nosuch'"),
    (["kecho:nosuch=1"], EX_USAGE, "no parameter 'nosuch'"),
    (["kecho:port=65536"], EX_USAGE, "out of range"),
    (["kecho:port=-1"], EX_USAGE, "not a number"),
    (["kecho:port=12x"], EX_USAGE, "not a number"),
    (["kecho:port="], EX_USAGE, "not a number"),
    (["kecho:port=99999999999999999999999"], EX_USAGE, "port="),
    (["kecho:port"], EX_USAGE, "not param=value"),
    (["kecho:=1"], EX_USAGE, "not param=value"),
    (["kecho:listen=localhost"], EX_USAGE, "not an IP address"),
    (["kecho:listen="], EX_USAGE, "no address"),
    (["kecho:listen=127.0.0.1/8"], EX_USAGE, "127.0.0.1/8"),
    (["kecho:allow=10.0.0.1/8"], EX_USAGE, "behind its prefix"),
    (["kecho:allow=10.0.0.0/33"], EX_USAGE, "prefix length"),
    (["kecho:cpus=x"], EX_USAGE, "list of cores"),
    (["kecho:port=0,cpus=4095"], EX_USAGE, "not all of these are available"),
    (["kecho:tdmin=9,tdmax=8,port=0"], EX_USAGE, "tdmin=9 is above tdmax=8"),
    (["kecho:txlowat=1g,port=0"], EX_USAGE, "is not below"),
    (["kecho:tcp=0,udp=0"], EX_USAGE, "nothing to serve"),
    (["kecho:tcp=maybe"], EX_USAGE, "not a boolean"),
    (["kecho:backend=nosuch"], EX_USAGE, "no backend"),
    (["kecho", "kecho"], EX_USAGE, "given twice"),
    (["--nosuch"], EX_USAGE, "usage"),
    (["kecho:port=0,listen=192.0.2.1"], EX_UNAVAILABLE, "192.0.2.1:0: address not available"),
    (["-f", "/nonexistent/ksfd.conf"], EX_NOINPUT, "/nonexistent/ksfd.conf"),
]


def check_bad_command_lines():
    for args, status, text in BAD_COMMAND_LINES:
        result = run(*args)
        expect(result.returncode == status, f"{args}: status {result.returncode}, not {status}")
        expect(text in result.stderr, f"{args}: '{result.stderr}' does not say '{text}'")
        expect("listening" not in result.stdout and "ready" not in result.stdout, f"{args}: {result.stdout}")
        if status != EX_USAGE or args != ["--nosuch"]:
            expect(result.stderr.count("\n") == 1, f"{args}: not one line: {result.stderr}")


def check_busy_port():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            port = taken.getsockname()[1]
            result = run(f"kecho:port={port}")
            expect(result.returncode == EX_UNAVAILABLE, result)
            expect(f"127.0.0.1:{port}: address in use" in result.stderr, result.stderr)
    with Daemon("kecho:port=0") as daemon:
        result = run(f"kecho:port={daemon.port()}")
        expect(result.returncode == EX_UNAVAILABLE, "two daemons share a port")
        expect(echoes(daemon.port()), "the first daemon was disturbed")


def check_lists_in_values():
    need_addresses("127.0.0.2")
    with Daemon("kecho:listen=127.0.0.1,127.0.0.2,port=0,udp=0") as daemon:
        expect(echoes(daemon.port("127.0.0.2"), "127.0.0.2"), "no echo at the second address")
        expect(len([line for line in daemon.lines if "listening" in line]) == 2, daemon.lines)


def check_stop_idle():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Daemon("kecho:port=0,grace_ms=60000") as daemon:
            with connect(daemon.port()) as idle:
                # Accepted, not only queued: closing the listener resets what still waits there.
                idle.sendall(b"x")
                expect(idle.recv(1) == b"x", "echo")
                begin = time.monotonic()
                daemon.signal(number)
                expect(daemon.wait() == EX_OK, "status")
                expect(time.monotonic() - begin < 10, "waited for an idle connection")
                expect(idle.recv(1) == b"", "no end of stream")


def never_reads(port, seconds=PATIENCE_S):
    """A connection whose server cannot send any more."""
    sock = connect(port)
    sock.setblocking(False)
    sent, end, last = 0, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() - last < 0.5:
        expect(time.monotonic() < end, "the server reads without end")
        try:
            sent += sock.send(b"x" * 65536)
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.02)
    return sock, sent


def check_stop_grace():
    with Daemon("kecho:port=0,grace_ms=1500") as daemon:
        sock, _ = never_reads(daemon.port())
        with sock:
            begin = time.monotonic()
            daemon.signal(signal.SIGTERM)
            expect(daemon.wait() == EX_OK, "status")
            took = time.monotonic() - begin
            expect(1.0 < took < 2.5 + 5, f"grace time 1.5 s, took {took:.2f} s")


def check_stop_twice():
    with Daemon("kecho:port=0,grace_ms=600000") as daemon:
        sock, _ = never_reads(daemon.port())
        with sock:
            daemon.signal(signal.SIGTERM)
            time.sleep(0.3)
            expect(daemon.process.poll() is None, "did not wait for the grace time")
            daemon.signal(signal.SIGTERM)
            expect(daemon.wait(10) == EX_OK, "status")


def check_stop_under_load():
    with Daemon("kecho:port=0,grace_ms=1000") as daemon:
        load = [subprocess.Popen([ECHOTEST, "-i1", "-a64", "-j2", "-l", "512", "--duration", "20", *more,
                                  f"127.0.0.1:{daemon.port()}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                for more in ([], ["-u"])]
        time.sleep(1)
        begin = time.monotonic()
        daemon.signal(signal.SIGTERM)
        status = daemon.wait()
        took = time.monotonic() - begin
        for process in load:
            process.terminate()
            process.wait()
        expect(status == EX_OK, f"status {status}")
        expect(took < 2 + 5, f"grace time 1 s, took {took:.2f} s")


def check_bounded_memory():
    limit = 65536
    with Daemon(f"kecho:port=0,txhiwat={limit},txlowat=0") as daemon:
        socks = [never_reads(daemon.port())[0] for _ in range(8)]
        stats = daemon.stats()
        # Segments are packed before they are kept: headers and the last segment may add to the bytes themselves.
        expect(0 < stats["kecho.mem_used"] <= 8 * (limit + limit // 2 + 8192), stats["kecho.mem_used"])
        expect(stats["kecho.pauses"] >= 8, stats["kecho.pauses"])
        for sock in socks:
            sock.close()
        until(lambda: daemon.stats()["kecho.mem_used"] == 0, "memory of closed connections is kept")
        expect(daemon.stats()["kecho.conns"] == 0, "connections are left")


def check_no_allocation_per_message():
    with Daemon(f"kecho:port=0,cpus={first_cpu()}") as daemon:
        with connect(daemon.port()) as sock:
            def rounds(count):
                for _ in range(count):
                    sock.sendall(b"x" * 64)
                    expect(len(sock.recv(64, socket.MSG_WAITALL)) == 64, "echo")
            rounds(100)
            before = daemon.stats()
            rounds(2000)
            after = daemon.stats()
        expect(after["kecho.runs"] - before["kecho.runs"] >= 2000, "runs")
        expect(after["kecho.kbuf_allocated"] == before["kecho.kbuf_allocated"],
               f'{after["kecho.kbuf_allocated"] - before["kecho.kbuf_allocated"]} allocations in 2000 messages')


def check_allow():
    with Daemon("kecho:port=0,allow=10.0.0.0/8,2001:db8::/32") as daemon:
        expect(refused(daemon.port()), "served although not allowed")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", daemon.port()))
            until(lambda: daemon.stats()["kecho.refused_allow"] == 2, "not counted")
            expect(not select.select([sock], [], [], 0.2)[0], "answered although not allowed")


def check_limits():
    with Daemon("kecho:port=0,maxconns=4") as daemon:
        kept = [connect(daemon.port()) for _ in range(4)]
        for sock in kept:
            sock.sendall(b"x")
            expect(sock.recv(1) == b"x", "one of the first four")
        expect(refused(daemon.port()), "a fifth was served")
        expect(daemon.stats()["kecho.refused_maxconns"] == 1, "not counted")
        for sock in kept:
            sock.close()
    with Daemon("kecho:port=0,maxconns_addr=1") as daemon:
        with connect(daemon.port()) as sock:
            sock.sendall(b"x")
            expect(sock.recv(1) == b"x", "the first")
            expect(refused(daemon.port()), "a second of the same address was served")
            expect(daemon.stats()["kecho.refused_maxconns_addr"] == 1, "not counted")


def check_idle_timeout():
    with Daemon("kecho:port=0,idle_timeout_ms=300") as daemon:
        with connect(daemon.port()) as sock:
            expect(sock.recv(1) == b"", "not closed")
        expect(daemon.stats()["kecho.closed_idle"] == 1, "not counted")


def check_out_of_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        # The daemon takes the hard limit: lower that for it alone.
        process = subprocess.Popen(["sh", "-c", 'ulimit -n 40 && exec "$0" "$@"', KSFD, "kecho:port=0,cpus=0"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        socks = [connect(port) for _ in range(60)]
        time.sleep(0.5)
        for sock in socks[:50]:
            sock.close()
        # Those that could not be accepted are served as descriptors come back.
        socks[-1].sendall(b"x")
        expect(socks[-1].recv(1) == b"x", "the last connection was forgotten")
        for sock in socks:
            sock.close()
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE_S)
        expect("out of file descriptors" in errors, errors)
        expect(errors.count("\n") < 100, "the log is flooded")
    finally:
        process.kill()
        process.wait()


def config(text):
    file = tempfile.NamedTemporaryFile("w", suffix=".conf")
    file.write(text)
    file.flush()
    return file


def rewrite(file, text):
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def check_config_file():
    need_addresses("127.0.0.3", "127.0.0.4")
    with config("# ksfd\n[kecho]\nport = 0   # any\nlisten = 127.0.0.1, 127.0.0.3\n") as file:
        with Daemon("-f", file.name) as daemon:
            expect(echoes(daemon.port("127.0.0.3"), "127.0.0.3"), "no echo")
        with Daemon("-f", file.name, "kecho:listen=127.0.0.4") as daemon:
            expect(echoes(daemon.port("127.0.0.4"), "127.0.0.4"), "the command line does not count more")


BAD_FILES = [
    ("port = 1\n", "before the first"),
    ("[kecho\n", "is not [service]"),
    ("[kecho]\nport\n", "is not param = value"),
    ("[kecho]\nnosuch = 1\n", "no parameter 'nosuch'"),
    ("[kecho]\nport = 70000\n", "out of range"),
    ("[kecho]\n[kecho]\n", "given twice"),
    ("[nosuch]\n", "no service 'nosuch'"),
    ("[kecho]\nallow = " + "1" * 2000 + "\n", "longer than"),
    ("", "no service"),
]


def check_bad_config_files():
    for text, reason in BAD_FILES:
        with config(text) as file:
            result = run("-f", file.name)
            status = EX_CONFIG if text else EX_USAGE
            expect(result.returncode == status, f"{text!r}: status {result.returncode}: {result.stderr}")
            expect(reason in result.stderr and result.stderr.count("\n") == 1, f"{text!r}: {result.stderr}")


def check_reload():
    with config("[kecho]\nport = 0\nmaxconns = 1000\n") as file, Daemon("-f", file.name) as daemon:
        port = daemon.port()
        rewrite(file, "[kecho]\nport = 0\nmaxconns = 1\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: any("maxconns=1" in line for line in daemon.errors), "not applied")
        with connect(port) as first:
            first.sendall(b"x")
            expect(first.recv(1) == b"x", "echo")
            expect(refused(port), "the new limit is not in force")
        rewrite(file, "[kecho]\nport = 1\ntdmin = 2\nmaxconns = x\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: sum("unchanged" in line for line in daemon.errors) == 3, daemon.errors)
        rewrite(file, "[kecho\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: any("is not [service]" in line for line in daemon.errors), daemon.errors)
        rewrite(file, "[kecho]\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: any("maxconns=65536" in line for line in daemon.errors), "the default does not come back")
        expect(echoes(port), "does not serve after bad files")


def check_enable():
    with config("[kecho]\nport = 0\n") as file, Daemon("-f", file.name) as daemon:
        first = daemon.port()
        rewrite(file, "[kecho]\nport = 0\nenable = 0\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: any("stopped" in line for line in daemon.errors), "not stopped")
        try:
            connect(first).close()
            raise Failure("still listens")
        except ConnectionRefusedError:
            pass
        mark = len(daemon.lines)
        rewrite(file, f"[kecho]\nport = {first}\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: any("listening tcp 127.0.0.1" in line for line in daemon.lines[mark:]), daemon.errors)
        expect(echoes(first), "no echo after the second start")
        expect(daemon.stats()["kecho.accepted"] >= 1, "statistics")


def check_reload_while_stopped():
    with config("[kecho]\nport = 0\n") as file, Daemon("-f", file.name) as daemon:
        rewrite(file, "[kecho]\nport = 0\nenable = 0\ntdmin = 2\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: any("tdmin=2" in line for line in daemon.errors), daemon.errors)
        expect(not any("unchanged" in line for line in daemon.errors), daemon.errors)


def check_urgent_mark():
    """A receive call stops at an urgent mark: what follows must come back although nothing more is sent."""
    with Daemon("kecho:port=0") as daemon, connect(daemon.port()) as sock:
        sock.sendall(b"x")
        expect(sock.recv(1) == b"x", "echo")
        for _ in range(20):
            daemon.signal(signal.SIGSTOP)
            sock.send(b"abc")
            sock.send(b"!", socket.MSG_OOB)
            sock.send(b"def")
            daemon.signal(signal.SIGCONT)
            sock.settimeout(5)
            received = b""
            while len(received) < 6:
                part = sock.recv(6 - len(received))
                expect(part, "closed")
                received += part
            expect(received == b"abcdef", received)


def check_out_of_descriptors_quietly():
    """A full table of descriptors is told once, not every tenth of a second."""
    process = subprocess.Popen(["sh", "-c", 'ulimit -n 40 && exec "$0" "$@"', KSFD, "kecho:port=0,cpus=0,udp=0"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        socks = [connect(port) for _ in range(50)]
        time.sleep(1.5)
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE_S)
        told = errors.count("out of file descriptors")
        expect(1 <= told <= 4, f"told {told} times: {errors}")
        for sock in socks:
            sock.close()
    finally:
        process.kill()
        process.wait()


def check_reload_under_load():
    with config("[kecho]\nport = 0\n") as file, Daemon("-f", file.name) as daemon:
        load = subprocess.Popen([ECHOTEST, "-i1", "-a16", "-j2", "--duration", "3", f"127.0.0.1:{daemon.port()}"],
                                stdout=subprocess.DEVNULL)
        for n in range(30):
            rewrite(file, f"[kecho]\nport = 0\ntxhiwat = {65536 + n}\nallow = 127.0.0.0/8, ::{n + 1}\n")
            daemon.signal(signal.SIGHUP)
            time.sleep(0.05)
        expect(load.wait(PATIENCE_S) == 0, "a client was disturbed")


def main():
    checks = [(name[6:], value) for name, value in globals().items() if name.startswith("check_")]
    print(f"1..{len(checks)}")
    failed = 0
    for number, (name, check) in enumerate(checks, 1):
        try:
            check()
            print(f"ok {number} - {name.replace('_', ' ')}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name.replace('_', ' ')} # SKIP {reason}", flush=True)
        except (Failure, OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
            failed += 1
            print(f"not ok {number} - {name.replace('_', ' ')}\n# {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


sys.exit(main())
