# SPDX-License-Identifier: BSD-2-Clause
# A thin face of Meson, for GNU make and BSD make alike.
#
#   make             build everything for the user host into build/bin/
#   make check       install what is missing, run every test; the last line counts them
#   make demo        install what is missing, run the echo service and measure it
#   make bench       compare with minimal servers, results in build/bench/
#   make check-long  sanitizers, fault injection, fuzzers, static analysis, coverage
#   make install     PREFIX=/usr/local DESTDIR=
#   make format      format the C sources; make clean removes build/

BUILD = build
PREFIX = /usr/local

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup --prefix=$(PREFIX) $(BUILD)

check:
	tests/check

check-long:
	tests/check-long

demo:
	scripts/demo

bench: all
	bench/run --bindir $(BUILD)/bin --out $(BUILD)/bench

install: all
	meson install -C $(BUILD) --no-rebuild

format:
	scripts/format

clean:
	rm -rf $(BUILD) $(BUILD)-*

.PHONY: all check check-long demo bench install format clean
