"""Sums JUnit reports: prints `N passed, N failed` and exits with 1 if anything failed."""

import sys
import xml.etree.ElementTree as ElementTree


def main(paths: list[str]) -> int:
    passed = failed = skipped = 0
    for path in paths:
        before = passed + failed + skipped
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
        if passed + failed + skipped == before:
            print(f"{path}: no test ran")
            failed += 1
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
