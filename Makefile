# Every command of the project; `make help` lists them. The work is in scripts/.
JOBS ?= 2
export JOBS

.DEFAULT_GOAL := help
.PHONY: help setup demo test build bench format check asan tsan fuzz mutants compat gpu-bundle gpu-check clean

help:            ## this list
	@grep -hE '^[a-z-]+: +.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup:           ## install what is missing: Debian packages, and Python packages in .venv
	@scripts/setup.sh

demo: build      ## start a server, train against it on real data, show losses and metrics
	@scripts/demo.sh

test: setup      ## build, then run every test that needs no GPU
	@scripts/test.sh

build: setup     ## release build in build/release, binaries in build/release/bin
	@scripts/build.sh release

bench: build     ## run the benchmarks; each writes build/bench/<name>.json
	@scripts/bench.sh

format: setup    ## format all sources in place
	@scripts/format.sh

check: setup     ## formatting, lint, static analysis
	@scripts/check.sh

asan: setup      ## the C++ tests under the address and undefined-behaviour sanitizers
	@scripts/sanitize.sh asan

tsan: setup      ## the tests of kernels and engine under the thread sanitizer
	@scripts/sanitize.sh tsan

fuzz: setup      ## run every fuzzer for FUZZ_SECONDS (60)
	@scripts/fuzz.sh

mutants: setup   ## seed faults one by one; the tests must catch each (MUTANTS='--only NAME')
	@.venv/bin/python scripts/mutants.py $(MUTANTS)

compat: setup    ## live comparisons with other frameworks, in an environment of their own
	@scripts/compat.sh

gpu-bundle: setup ## a relocatable folder with all that a GPU machine needs
	@scripts/gpu_bundle.sh

gpu-check:       ## on a GPU machine: all GPU tests and benchmarks, from the bundle
	@scripts/gpu_check.sh

clean:           ## remove build/
	rm -rf build
