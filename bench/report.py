# SPDX-License-Identifier: BSD-2-Clause
"""Turns the samples of a benchmark run into a table, results.md, results.json and plots.

Used by bench/run after each case and at the end. Reads and judges numbers; measures nothing.
"""

import json
import math
import os
import shutil
import statistics
import subprocess

import cases

GNUPLOT_TIMEOUT_S = 60
SVG = "svg size 1000,560 dynamic background '#ffffff' font 'Helvetica,14'"
PNG = "pngcairo size 1000,560 background '#ffffff' font 'Helvetica,11'"
COLOURS = {
    "ksfd": "#1f5fa8", "ksfd spin": "#5b9bd5", "ksfd uring": "#9cc3e6", "min-epoll": "#f0a030",
    "min-uring": "#c05a28", "min-thread": "#8c8c8c",
}


class Results:
    """All samples of a run: case key -> contender name -> list of samples."""

    def __init__(self):
        self.samples = {}
        self.present = {}  # contenders that can be started, by name
        self.problems = []

    def add(self, case, contender, sample):
        """Keep a sample."""
        self.samples.setdefault(case.key, {}).setdefault(contender.name, []).append(sample)

    def values(self, case_key, figure_key, name):
        """All measured values of a figure, in the order of the rounds."""
        return [sample[figure_key] for sample in self.samples.get(case_key, {}).get(name, [])]

    def median(self, case_key, figure_key, name):
        """The median of a figure, or None when there is no sample."""
        values = self.values(case_key, figure_key, name)
        return statistics.median(values) if values else None


def number(value, digits=0):
    """A number with thousands separators."""
    return f"{value:,.{digits}f}"


def figure_rows(results, case, figure):
    """(contender, median, least, most, median relative to min-epoll's or '') for those present."""
    reference = results.median(case.key, figure.key, "min-epoll")
    rows = []
    for name in case.names:
        if name not in results.present:
            continue
        values = results.values(case.key, figure.key, name)
        if not values:
            rows.append((name, "no result", "", "", ""))
            continue
        median = statistics.median(values)
        rows.append((name, number(median, figure.digits), number(min(values), figure.digits),
                     number(max(values), figure.digits),
                     f"{median / reference:.2f}" if reference else ""))
    return rows


def case_text(results, case):
    """The table of a case for a terminal."""
    lines = [case.title]
    for figure in case.figures:
        better = "lower" if figure.lower_is_better else "higher"
        lines.append(f"  {figure.title}, {figure.unit} ({better} is better)")
        lines.append(f"    {'':12}{'median':>14}{'min':>14}{'max':>14}{'/ min-epoll':>14}")
        for name, *columns in figure_rows(results, case, figure):
            lines.append(f"    {name:12}" + "".join(f"{column:>14}" for column in columns))
    return "\n".join(lines)


def case_markdown(results, case):
    """The table of a case for results.md."""
    lines = [f"### {case.title}", ""]
    for figure in case.figures:
        better = "lower" if figure.lower_is_better else "higher"
        lines += [f"{figure.title.capitalize()}, {figure.unit} ({better} is better)", "",
                  "| server | median | min | max | / min-epoll |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += ["| " + " | ".join(row) + " |" for row in figure_rows(results, case, figure)]
        lines.append("")
    return "\n".join(lines)


def best_minimal(results, case_key, figure_key):
    """The highest median among the minimal servers, or None."""
    medians = [results.median(case_key, figure_key, name) for name in cases.MINIMAL]
    return max((median for median in medians if median is not None), default=None)


def judge(results):
    """Every bound with its measured value and verdict, as dictionaries."""
    verdicts = []
    for bound in cases.BOUNDS:
        measured = results.median(*bound.value)
        if bound.reference is not None and measured is not None:
            case_key, figure_key, name = bound.reference
            reference = (results.median(case_key, figure_key, name) if name
                         else best_minimal(results, case_key, figure_key))
            measured = measured / reference if reference else None
        if measured is None:
            verdict = "not measured"
        elif bound.at_most:
            verdict = "ok" if measured <= bound.limit else "MISSED"
        else:
            verdict = "ok" if measured >= bound.limit else "MISSED"
        verdicts.append({
            "bound": bound.text, "measured": measured, "limit": bound.limit,
            "relation": "at most" if bound.at_most else "at least", "verdict": verdict,
        })
    return verdicts


def bound_numbers(verdict):
    """Measured value and limit of a verdict, with as many digits as they deserve."""
    digits = 0 if verdict["limit"] >= 100 else 2
    measured = verdict["measured"]
    return ("-" if measured is None else number(measured, digits),
            f"{verdict['relation']} {number(verdict['limit'], digits)}")


def bounds_text(verdicts):
    """The table of bounds for a terminal."""
    lines = ["Must hold"]
    for verdict in verdicts:
        measured, limit = bound_numbers(verdict)
        lines.append(f"  {verdict['bound']}")
        lines.append(f"    {measured:>12}  {limit:20}{verdict['verdict']}")
    return "\n".join(lines)


def bounds_markdown(verdicts):
    """The table of bounds for results.md."""
    lines = ["| bound | measured | limit | |", "| --- | ---: | ---: | --- |"]
    for verdict in verdicts:
        measured, limit = bound_numbers(verdict)
        lines.append(f"| {verdict['bound']} | {measured} | {limit} | {verdict['verdict']} |")
    return "\n".join(lines)


def write_json(path, facts, results, verdicts):
    """results.json: facts of the run, the summary of every figure, and every sample."""
    summary = {}
    for case in cases.CASES:
        if case.key not in results.samples:
            continue
        summary[case.key] = {"title": case.title, "figures": {}, "samples": results.samples[case.key]}
        for figure in case.figures:
            summary[case.key]["figures"][figure.key] = {
                "title": figure.title, "unit": figure.unit,
                "lower_is_better": figure.lower_is_better,
                "servers": {
                    name: {"median": statistics.median(values), "min": min(values),
                           "max": max(values), "rounds": len(values)}
                    for name in case.names
                    if (values := results.values(case.key, figure.key, name))
                },
            }
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"facts": facts, "cases": summary, "must_hold": verdicts,
                   "problems": results.problems}, file, indent=1)
        file.write("\n")


def write_markdown(path, facts, results, verdicts, plots):
    """results.md: everything a reader needs to judge and to repeat the run."""
    lines = ["# Echo benchmarks", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items() if not isinstance(value, dict)]
    lines += ["", "Every sample starts its server afresh; the samples of the servers are interleaved, "
              "so that a disturbance hits all of them alike.", "", "## Must hold", "",
              bounds_markdown(verdicts), ""]
    lines += [f"![{title}]({name}.svg)\n" for name, title in plots]
    lines += ["## Measurements", ""]
    lines += [case_markdown(results, case) for case in cases.CASES if case.key in results.samples]
    if results.problems:
        lines += ["## Problems", "", *[f"- {problem}" for problem in results.problems], ""]
    lines += ["## Commands", "", "Servers:", ""]
    lines += [f"    {command}" for command in facts["server commands"].values()]
    lines += ["", "Load:", ""]
    lines += [f"    {command}" for command in facts["load commands"].values()]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


class Plot:
    """Groups of bars, one bar per contender, with whiskers from least to most."""

    def __init__(self, name, title, ylabel, names):
        self.name, self.title, self.ylabel = name, title, ylabel
        self.names = names
        self.groups = []  # (label, {contender: (median, least, most)})
        self.extra = []
        self.floor = 0  # lowest value that can be drawn
        self.digits = 2  # of the numbers written above the bars

    def add(self, label, bars):
        """A group, unless it is empty."""
        if bars:
            self.groups.append((label, bars))

    def bar(self, x, median, least, most):
        """A line of data: place, median, ends of the whisker, and the number above it."""
        label = number(median, self.digits)
        return (f"{x:.4f} {max(self.floor, median):.6g} {max(self.floor, least):.6g} "
                f"{max(self.floor, most):.6g} {label}")

    def script(self):
        """The gnuplot script, data included; terminal and output are set before it."""
        names = [name for name in self.names if any(name in bars for _, bars in self.groups)]
        width = 0.8 / max(1, len(names))
        lines = [
            f"set title \"{self.title}\"", f"set ylabel \"{self.ylabel}\"",
            "set key outside bottom center horizontal samplen 2", "set bmargin 6",
            "set grid ytics lc '#dddddd'", "set format y \"%.12g\"",
            "set border 3", "set tics nomirror out", "set style fill solid noborder",
            f"set boxwidth {width * 0.9:.4f}", f"set xrange [-0.6:{len(self.groups) - 0.4}]",
            "set yrange [0:*]", "set offsets 0, 0, graph 0.08, 0",
            "set xtics (" + ", ".join(
                f"\"{label}\" {place}" for place, (label, _) in enumerate(self.groups)) + ")",
            *self.extra,
        ]
        parts = []
        for index, name in enumerate(names):
            block = f"$bars{index}"
            lines.append(f"{block} << EOD")
            for place, (_, bars) in enumerate(self.groups):
                if name in bars:
                    lines.append(self.bar(place + (index - (len(names) - 1) / 2) * width,
                                          *bars[name]))
            lines.append("EOD")
            parts.append(f"{block} using 1:2 with boxes lc rgb '{COLOURS[name]}' title \"{name}\"")
            parts.append(f"{block} using 1:3:(0):($4-$3) with vectors heads size 0.03,90 "
                         "lc rgb '#404040' notitle")
            parts.append(f"{block} using 1:4:5 with labels offset 0,0.7 font ',10' notitle")
        lines.append("plot " + ", \\\n     ".join(parts))
        return "\n".join(lines) + "\n"


def bars(results, case_key, figure_key, names, scale=1.0):
    """Median, least and most of a figure for each contender that has samples."""
    found = {}
    for name in names:
        values = [value * scale for value in results.values(case_key, figure_key, name)]
        if values:
            found[name] = (statistics.median(values), min(values), max(values))
    return found


def round_trip_plot(results, where):
    """Round-trip times on the same core or across cores, TCP and UDP."""
    title = {"same-core": "client on the same core", "across": "client on another core"}[where]
    plot = Plot(f"round-trip-{where}", f"Echo round trip, 64 bytes, 1 in flight, {title}",
                "median round trip, microseconds", cases.ALL)
    plot.digits = 1
    for protocol, prefix in (("TCP", ""), ("UDP", "udp-")):
        plot.add(protocol, bars(results, f"{prefix}rtt-{where}", "p50_us", cases.ALL))
    return plot


def throughput_plot(results):
    """Throughput of every pipelined case, relative to the best minimal server."""
    plot = Plot("throughput", "Pipelined echo throughput, best minimal server = 1",
                "messages per second, relative", cases.NO_SPIN)
    plot.extra = ["set arrow from graph 0, first 1 to graph 1, first 1 nohead lc '#404040' dt 2"]
    labels = {
        "pipelined-64-batch1-conns1": "TCP 64 B\\nbatch 1\\n1 conn",
        "pipelined-64-batch128-conns1": "TCP 64 B\\nbatch 128\\n1 conn",
        f"pipelined-64-batch1-conns{cases.FEW}": f"TCP 64 B\\nbatch 1\\n{cases.FEW} conns",
        f"pipelined-64-batch128-conns{cases.FEW}": f"TCP 64 B\\nbatch 128\\n{cases.FEW} conns",
        "pipelined-16k": "TCP 16 KiB\\n1 conn", "udp-pipelined-64": "UDP 64 B\\nbatch 32",
    }
    for case_key, label in labels.items():
        best = best_minimal(results, case_key, "rate")
        if best:
            rate = f"{best / 1e6:.2f} M/s" if best >= 1e6 else f"{best / 1e3:.0f} k/s"
            plot.add(f"{label}\\n1 = {rate}",
                     bars(results, case_key, "rate", cases.NO_SPIN, 1 / best))
    plot.extra.append("set bmargin 9")
    return plot


def memory_plot(results):
    """Private memory per idle connection and per client that never reads."""
    plot = Plot("memory", "Server's private memory per connection (kernel's memory not included)",
                "bytes, logarithmic", cases.NO_SPIN)
    plot.digits = 0
    plot.floor = 1  # the axis is logarithmic
    most = 1
    for label, case_key, figure_key in (("idle", "connected", "idle_bytes"),
                                        ("never reads", "never-reading", "held_bytes")):
        found = bars(results, case_key, figure_key, cases.NO_SPIN)
        plot.add(label, found)
        most = max([most, *[values[2] for values in found.values()]])
    plot.extra = ["set logscale y", f"set yrange [1:{10 ** math.ceil(math.log10(most * 2))}]",
                  "unset offsets"]
    return plot


def connected_plot(results):
    """Throughput with few and with many connections."""
    plot = Plot("connections", f"Throughput of {cases.FEW} active connections, "
                f"{cases.IN_FLIGHT} x 64 bytes in flight", "thousand messages per second",
                cases.NO_SPIN)
    plot.digits = 0
    plot.add(f"{cases.FEW} connected", bars(results, "connected", "few_rate", cases.NO_SPIN, 1e-3))
    plot.add(f"{cases.MANY} connected",
             bars(results, "connected", "many_rate", cases.NO_SPIN, 1e-3))
    return plot


def never_reading_plot(results):
    """A well-behaved client's tail latency, without and with clients that never read."""
    plot = Plot("never-reading", "Round trip of a well-behaved client, 1 in flight, "
                "client on another core", "99th percentile, microseconds", cases.NO_SPIN)
    plot.digits = 0
    plot.add("alone", bars(results, "never-reading", "alone_p99_us", cases.NO_SPIN))
    plot.add(f"with {cases.NEVER_READING} clients that never read",
             bars(results, "never-reading", "among_p99_us", cases.NO_SPIN))
    return plot


def write_plots(directory, results):
    """Draw all plots that have data; returns [(file name without suffix, title)]."""
    if shutil.which("gnuplot") is None:
        results.problems.append("no plots: gnuplot is not installed")
        return []
    drawn = []
    for plot in (round_trip_plot(results, "same-core"), round_trip_plot(results, "across"),
                 throughput_plot(results), memory_plot(results), connected_plot(results),
                 never_reading_plot(results)):
        if not plot.groups:
            continue
        script = ""
        for terminal, suffix in ((SVG, "svg"), (PNG, "png")):
            script += f"set terminal {terminal}\nset output '{plot.name}.{suffix}'\n"
            script += plot.script() + "unset output\nreset\n"
        with open(os.path.join(directory, f"{plot.name}.gp"), "w", encoding="utf-8") as file:
            file.write(script)
        done = subprocess.run(["gnuplot", f"{plot.name}.gp"], cwd=directory, text=True, check=False,
                              capture_output=True, timeout=GNUPLOT_TIMEOUT_S)
        if done.returncode != 0:
            results.problems.append(f"plot {plot.name}: {done.stderr.strip()}")
            continue
        drawn.append((plot.name, plot.title))
    return drawn
