# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmarks measure: contenders, cases, and the ratios that must hold.

Data and small pure functions only, used by bench/run and bench/report.py; the one thing that runs
anything is a case's `measure`, by way of bench/measure.py.
"""

import dataclasses
import typing

import measure

# Must cover the time in which the client's idle core wakes up and sends the next message: about 50
# microseconds in a virtual machine.
SPIN_US = 200
# Output queued for a client at which ksfd stops reading from it; its default, said explicitly.
TX_HIGH_WATER_BYTES = 262144
# What a server may have read, in one go, from a client whose output then turns out to be stuck.
RECEIVE_BYTES = 65536

IN_FLIGHT = 128
FEW = 16
MANY = 10000
NEVER_READING = 1000
KERNEL_BYTES_PER_FLOODER = 1 << 20


@dataclasses.dataclass(frozen=True)
class Contender:
    """A server to be measured. `arguments` are those after the program, for a given CPU."""

    name: str
    program: str
    arguments: typing.Callable[[int], list]
    minimal: bool = False


def ksfd(*parameters):
    """Arguments that make ksfd serve echo on a free port of 127.0.0.1."""

    def arguments(cpu):
        chosen = ["port=0", "listen=127.0.0.1", f"cpus={cpu}", f"txhiwat={TX_HIGH_WATER_BYTES}"]
        return ["kecho:" + ",".join([*chosen, *parameters])]

    return arguments


def minimal(*options):
    """Arguments of a minimal server."""

    def arguments(cpu):
        return ["-c", str(cpu), *options]

    return arguments


CONTENDERS = [
    Contender("ksfd", "ksfd", ksfd("spin_us=0")),
    Contender("ksfd spin", "ksfd", ksfd(f"spin_us={SPIN_US}")),
    Contender("ksfd uring", "ksfd", ksfd("spin_us=0", "backend=uring")),
    Contender("min-epoll", "min-epoll", minimal("-u"), minimal=True),
    Contender("min-uring", "min-uring", minimal(), minimal=True),
    Contender("min-thread", "min-thread", minimal("-u"), minimal=True),
]
NO_SPIN = ["ksfd", "ksfd uring", "min-epoll", "min-uring", "min-thread"]
ALL = ["ksfd", "ksfd spin", *NO_SPIN[1:]]
MINIMAL = [contender.name for contender in CONTENDERS if contender.minimal]


def without_uring(names):
    """Those that speak UDP: the minimal io_uring server does not."""
    return [name for name in names if name != "min-uring"]


@dataclasses.dataclass
class Bench:
    """Where and how long to measure; the same for all cases."""

    binary_directory: str
    server_cpu: int
    client_cpu: int
    duration_s: float
    many: int
    never_reading: int

    def program(self, name):
        """Path of one of our programs."""
        return f"{self.binary_directory}/{name}"

    def server_command(self, contender):
        """The command line that starts a contender."""
        return [self.program(contender.program), *contender.arguments(self.server_cpu)]

    def serve(self, contender):
        """A context manager: the contender, running."""
        return measure.server(self.server_command(contender), self.server_cpu)

    def echotest(self, port, options, cpu):
        """One run of echotest; its JSON object, complete and without errors."""
        result = measure.echotest(
            self.program("echotest"), port, options, self.duration_s, cpu)
        errors = {kind: count for kind, count in result["errors"].items() if count}
        if errors:
            raise measure.MeasurementError(f"echotest: {errors}")
        return result


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number that a case measures. `key` finds it in a sample."""

    key: str
    title: str
    unit: str
    lower_is_better: bool
    digits: int = 0


P50 = Figure("p50_us", "median", "us", True, 2)
P99 = Figure("p99_us", "99th percentile", "us", True, 2)
RATE = Figure("rate", "throughput", "messages/s", False)


@dataclasses.dataclass(frozen=True)
class EchoCase:
    """One echotest against one server."""

    key: str
    title: str
    names: list
    options: list
    figures: list
    across: bool = True  # the client runs on another CPU than the server
    udp: bool = False

    def measure(self, bench, contender):
        """One sample: figure key to number, and echotest's own object."""
        cpu = bench.client_cpu if self.across else bench.server_cpu
        with bench.serve(contender) as server:
            port = server.ports["udp" if self.udp else "tcp"]
            result = bench.echotest(port, self.options, cpu)
        return {
            "p50_us": result["latency_us"]["p50"], "p99_us": result["latency_us"]["p99"],
            "rate": result["rate"], "lost": result["lost"], "echotest": result,
        }


@dataclasses.dataclass(frozen=True)
class ConnectedCase:
    """Memory of idle connections, and what they cost the active ones."""

    key: str = "connected"
    title: str = f"{MANY} connections of which {FEW} are active, {IN_FLIGHT} in flight in all"
    names: tuple = tuple(NO_SPIN)
    options: tuple = ("-l", "64", "-a", str(IN_FLIGHT), "--connections", str(FEW))
    across: bool = True
    figures: tuple = (
        Figure("idle_bytes", "private memory per idle connection", "bytes", True),
        Figure("few_rate", f"throughput, {FEW} connected", "messages/s", False),
        Figure("many_rate", f"throughput, {MANY} connected", "messages/s", False),
    )

    def measure(self, bench, contender):
        """One sample. Every idle connection has echoed once before it is counted."""
        idle = bench.many - FEW
        with bench.serve(contender) as server:
            port = server.ports["tcp"]
            few = bench.echotest(port, self.options, bench.client_cpu)
            before = server.private_bytes()
            with measure.held_connections(
                    bench.program("flood"), port, ["-n", str(idle), "-i", "64"],
                    bench.client_cpu):
                after = server.private_bytes()
                many = bench.echotest(port, self.options, bench.client_cpu)
        return {
            "idle_bytes": max(0, after - before) / idle, "few_rate": few["rate"],
            "many_rate": many["rate"],
        }


@dataclasses.dataclass(frozen=True)
class NeverReadingCase:
    """What clients that never read cost the server, and a client that does."""

    key: str = "never-reading"
    title: str = f"{NEVER_READING} clients that never read, and one that does"
    names: tuple = tuple(NO_SPIN)
    options: tuple = ("-l", "64", "-a", "1")
    across: bool = True
    figures: tuple = (
        Figure("alone_p99_us", "99th percentile, alone", "us", True, 2),
        Figure("among_p99_us", "99th percentile, among them", "us", True, 2),
        Figure("held_bytes", "private memory per such client", "bytes", True),
        Figure("taken_bytes", "taken from each by server and kernel together", "bytes", True),
    )

    def measure(self, bench, contender):
        """One sample: one request in flight, without and with those that never read."""
        with bench.serve(contender) as server:
            port = server.ports["tcp"]
            alone = bench.echotest(port, self.options, bench.client_cpu)
            before = server.private_bytes()
            with measure.held_connections(
                    bench.program("flood"), port, ["-n", str(bench.never_reading)],
                    bench.client_cpu) as flood:
                after = server.private_bytes()
                among = bench.echotest(port, self.options, bench.client_cpu)
        if flood["closed"]:
            raise measure.MeasurementError(f"{flood['closed']} connections closed by the server")
        return {
            "alone_p99_us": alone["latency_us"]["p99"],
            "among_p99_us": among["latency_us"]["p99"],
            "held_bytes": max(0, after - before) / bench.never_reading,
            "taken_bytes": flood["accepted"] / bench.never_reading,
        }


def echo(length, in_flight, batch=1, connections=1):
    """echotest's options for a load."""
    return ["-l", str(length), "-a", str(in_flight), "--batch", str(batch),
            "--connections", str(connections)]


def pipelined(batch, connections):
    """64-byte messages, many in flight."""
    return EchoCase(
        f"pipelined-64-batch{batch}-conns{connections}",
        f"TCP, 64 bytes, {IN_FLIGHT} in flight, batch {batch}, "
        f"{connections} connection{'s' if connections > 1 else ''}",
        NO_SPIN, echo(64, IN_FLIGHT, batch, connections), [RATE])


CASES = [
    EchoCase("rtt-same-core", "TCP round trip, 64 bytes, 1 in flight, client on the same core",
             NO_SPIN, echo(64, 1), [P50, P99], across=False),
    EchoCase("rtt-across", "TCP round trip, 64 bytes, 1 in flight, client on another core",
             ALL, echo(64, 1), [P50, P99]),
    pipelined(1, 1),
    pipelined(128, 1),
    pipelined(1, FEW),
    pipelined(128, FEW),
    EchoCase("pipelined-16k", "TCP, 16 KiB, 16 in flight, 1 connection", NO_SPIN,
             echo(16384, 16), [RATE]),
    EchoCase("udp-rtt-same-core", "UDP round trip, 64 bytes, 1 in flight, client on the same core",
             without_uring(NO_SPIN), ["-u", *echo(64, 1)], [P50, P99], across=False, udp=True),
    EchoCase("udp-rtt-across", "UDP round trip, 64 bytes, 1 in flight, client on another core",
             without_uring(ALL), ["-u", *echo(64, 1)], [P50, P99], udp=True),
    EchoCase("udp-pipelined-64", f"UDP, 64 bytes, {IN_FLIGHT} in flight, batch 32",
             without_uring(NO_SPIN), ["-u", *echo(64, IN_FLIGHT, 32)], [RATE], udp=True),
    ConnectedCase(),
    NeverReadingCase(),
]


@dataclasses.dataclass(frozen=True)
class Bound:
    """A requirement on ksfd: value, or value / reference, at most or at least the limit.

    `value` and `reference` are (case key, figure key, contender name); a reference that names no
    contender means the best of the minimal servers.
    """

    text: str
    value: tuple
    reference: typing.Optional[tuple]
    limit: float
    at_most: bool


def throughput_bound(case):
    """Pipelined throughput against the best minimal server."""
    return Bound(f"{case.title}: throughput / best minimal server", (case.key, "rate", "ksfd"),
                 (case.key, "rate", None), 0.95, False)


BOUNDS = [
    *[Bound(f"{proto.upper()} round trip, same core / min-epoll", (case, "p50_us", "ksfd"),
            (case, "p50_us", "min-epoll"), 1.05, True)
      for proto, case in (("tcp", "rtt-same-core"), ("udp", "udp-rtt-same-core"))],
    *[Bound(f"{proto.upper()} round trip, across cores, with spin / min-epoll",
            (case, "p50_us", "ksfd spin"), (case, "p50_us", "min-epoll"), 0.7, True)
      for proto, case in (("tcp", "rtt-across"), ("udp", "udp-rtt-across"))],
    *[throughput_bound(case) for case in CASES if "pipelined" in case.key],
    Bound("Private memory per idle connection, bytes", ("connected", "idle_bytes", "ksfd"), None,
          1024, True),
    Bound(f"Throughput, {FEW} active: {MANY} connected / {FEW} connected",
          ("connected", "many_rate", "ksfd"), ("connected", "few_rate", "ksfd"), 0.9, False),
    Bound("99th percentile: among clients that never read / alone",
          ("never-reading", "among_p99_us", "ksfd"), ("never-reading", "alone_p99_us", "ksfd"),
          2.0, True),
    Bound("Private memory per client that never reads, bytes",
          ("never-reading", "held_bytes", "ksfd"), None, TX_HIGH_WATER_BYTES + RECEIVE_BYTES,
          True),
]
