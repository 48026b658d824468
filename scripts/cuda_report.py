#!/usr/bin/env python3
"""What every CUDA kernel takes: registers, stack frame, spills, shared memory.

usage: cuda_report.py [BUILD_DIR [SOURCE…]]

Compiles the CUDA sources of a configured build (those whose path contains a SOURCE, if any is given) once
more, with the assembler's report on, and prints it as a table. Needs nvcc and no GPU. Exits 1 if a kernel of a fixed set of dtypes spills.
"""

import concurrent.futures
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

DTYPES = {"0": "any", "1": "f32", "2": "f16", "3": "bf16", "4": "f64", "5": "u8"}


def report(entry: dict) -> str:
    """The assembler's report on one source file."""
    words = shlex.split(entry["command"])
    if "ccache" in words[0]:
        words = words[1:]
    with tempfile.TemporaryDirectory() as folder:
        words[words.index("-o") + 1] = str(pathlib.Path(folder) / "out.o")
        done = subprocess.run(
            [*words, "-Xptxas", "-v"],
            cwd=entry["directory"],
            text=True,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout + done.stderr


def short_name(mangled: str) -> str:
    name = subprocess.run(
        ["c++filt", mangled], text=True, capture_output=True, check=True
    ).stdout.strip()
    name = re.sub(
        r"softloss::(cuda::)?|\(anonymous namespace\)::|^void |\([^()]*Params\)$", "", name
    )
    return re.sub(r"\(DType\)(\d)", lambda m: DTYPES[m[1]], name)


def main() -> int:
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/gpu")
    commands = json.loads((build / "compile_commands.json").read_text())
    wanted = sys.argv[2:] or [""]
    sources = [
        c
        for c in commands
        # Tests compile the same sources for an emulated device, as C++.
        if c["file"].endswith(".cu")
        and "nvcc" in c["command"]
        and any(name in c["file"] for name in wanted)
    ]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        text = "".join(pool.map(report, sources))
    rows = []
    pattern = re.compile(
        r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'.*?"
        r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
        r"(?P<loads>\d+) bytes spill loads.*?Used (?P<regs>\d+) registers(?P<rest>[^\n]*)",
        re.S,
    )
    for match in pattern.finditer(text):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        rows.append(
            (
                match["arch"],
                short_name(match["name"]),
                int(match["regs"]),
                int(match["stack"]),
                int(match["stores"]) + int(match["loads"]),
                int(shared[1]) if shared else 0,
            )
        )
    print(f"{'arch':6} {'regs':>5} {'stack':>6} {'spills':>7} {'shared':>7}  kernel")
    for arch, name, regs, stack, spills, shared in sorted(rows):
        print(f"{arch:6} {regs:5} {stack:6} {spills:7} {shared:7}  {name}")
    spilling = sum(1 for row in rows if row[4] and "<any" not in row[1].split("Types")[-1])
    print(f"{len(rows)} kernels; {sum(1 for r in rows if r[4])} spill")
    return 1 if not rows or spilling else 0


if __name__ == "__main__":
    sys.exit(main())
