"""Seeds faults into a copy of the tree, one at a time; the tests must catch each.

A mutant is tests/mutants/NAME.patch, a unified diff (-p1) under a header:

    Fault: what is wrong, in a line
    Targets: CMake targets to rebuild
    Tests: a regular expression of ctest names

or, in place of the last, `Pytest: paths`, which also reinstalls nothing: those tests run against
the rebuilt binaries. A mutant is caught if its tests fail. The unchanged copy must pass them all
first, so that a test that always fails proves nothing.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "mutants" / "tree"
TIME_LIMIT_S = 900  # a build and its tests, for one mutant


class Mutant:
    """A patch and what its header says."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.name = path.stem
        header = path.read_text().split("\n--- ", 1)[0]
        fields = dict(re.findall(r"^(Fault|Targets|Tests|Pytest): *(.+)$", header, re.MULTILINE))
        missing = {"Fault", "Targets"} - fields.keys()
        if missing or ("Tests" in fields) == ("Pytest" in fields):
            raise SystemExit(f"{path}: the header needs Fault, Targets, and Tests or Pytest")
        self.fault = fields["Fault"]
        self.targets = fields["Targets"].split()
        self.tests = fields.get("Tests")
        self.pytest = fields.get("Pytest", "").split()

    def apply(self, *options: str) -> subprocess.CompletedProcess:
        command = ["patch", "-p1", "--silent", "-l", "--no-backup-if-mismatch", *options]
        return subprocess.run(
            [*command, "-i", str(self.path)], cwd=COPY, capture_output=True, text=True
        )


def run(command: list[str], log, limit_s: float = TIME_LIMIT_S) -> int:
    """The exit status; one that takes too long has failed."""
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    environment = os.environ | {
        "PATH": f"{COPY}/build/dev/bin:{os.environ['PATH']}",
        "SOFTLOSS_BIN": f"{COPY}/build/dev/bin",
        # The copy's objects are the checkout's own, so that the cache has them.
        "CCACHE_BASEDIR": str(COPY),
        "CCACHE_NOHASHDIR": "1",
    }
    environment.setdefault("SOFTLOSS_DATA", str(ROOT.parent / "shared" / "data"))
    try:
        return subprocess.run(
            command, cwd=COPY, env=environment, stdout=log, stderr=log, timeout=limit_s
        ).returncode
    except subprocess.TimeoutExpired:
        log.write("timed out\n")
        return 124


def sync() -> None:
    """Makes the copy equal to the checkout's files, touching only those that differ."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    COPY.mkdir(parents=True, exist_ok=True)
    for path in COPY.rglob("*"):
        relative = path.relative_to(COPY)
        if relative.parts[0] != "build" and path.is_file() and str(relative) not in wanted:
            path.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def build(targets: list[str], log) -> int:
    jobs = os.environ.get("JOBS", "2")
    return run(["cmake", "--build", "--preset", "dev", "-j", jobs, "--target", *targets], log)


def test(mutant: Mutant, log) -> int:
    if mutant.pytest:
        python = str(ROOT / ".venv" / "bin" / "python")
        return run([python, "-m", "pytest", "-q", "-x", *mutant.pytest], log)
    command = ["ctest", "--preset", "dev", "--no-tests=error", "--timeout", "120"]
    return run([*command, "--stop-on-failure", "-R", mutant.tests], log)


def judge(mutant: Mutant, log) -> str:
    """'caught', or what went wrong."""
    applied = mutant.apply()
    if applied.returncode != 0:
        mutant.apply("--reverse", "--force")
        return f"does not apply: {applied.stdout.strip()}"
    try:
        # A fault that does not compile was caught by nobody.
        if build(mutant.targets, log) != 0:
            return "does not build"
        return "caught" if test(mutant, log) != 0 else "MISSED"
    finally:
        mutant.apply("--reverse")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="run this mutant (may be repeated)")
    parser.add_argument("--list", action="store_true", help="list the mutants and their faults")
    arguments = parser.parse_args()

    mutants = [Mutant(path) for path in sorted((ROOT / "tests" / "mutants").glob("*.patch"))]
    if arguments.only:
        mutants = [m for m in mutants if m.name in arguments.only]
    if not mutants:
        print("no such mutant", file=sys.stderr)
        return 2
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name:32} {mutant.fault}")
        return 0

    sync()
    logs = COPY.parent / "logs"
    logs.mkdir(exist_ok=True)
    with (logs / "_unchanged.log").open("w") as log:
        targets = sorted({target for mutant in mutants for target in mutant.targets})
        if run(["cmake", "--preset", "dev"], log) or build(targets, log):
            print(f"the unchanged tree does not build: see {log.name}")
            return 1
        for mutant in {m.tests or tuple(m.pytest): m for m in mutants}.values():
            if test(mutant, log) != 0:
                print(f"{mutant.name}: its tests fail without the fault: see {log.name}")
                return 1
    missed = 0
    for mutant in mutants:
        start = time.monotonic()
        with (logs / f"{mutant.name}.log").open("w") as log:
            verdict = judge(mutant, log)
        missed += verdict != "caught"
        print(
            f"{verdict:8} {mutant.name:32} {time.monotonic() - start:4.0f} s  {mutant.fault}",
            flush=True,
        )
    print(f"{len(mutants) - missed} of {len(mutants)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
