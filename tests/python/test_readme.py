"""The README's examples: the Python ones run, the C++ one is part of a program that is built."""

import re

import numpy as np
import pytest
from servers import REPOSITORY, Server


def blocks(language: str) -> list[str]:
    """The README's blocks of code in a language."""
    text = (REPOSITORY / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_python_example_scores(server: Server) -> None:
    first, second = blocks("python")
    code = first.replace('"127.0.0.1:50051"', repr(server.address))
    assert server.address in code
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    result = names["result"]
    # Under uniform labels a row loses logsumexp(x) - mean(x); its gradient is softmax(x) - 0.1.
    x = np.random.default_rng(0).normal(size=(256, 10)).astype(np.float32).astype(np.float64)
    log_sums = np.log(np.exp(x).sum(-1))
    assert result.loss == pytest.approx((log_sums - x.mean(-1)).mean(), rel=1e-6)
    stepped = x - 0.1 * (np.exp(x - log_sums[:, None]) - 0.1) / 256
    np.testing.assert_allclose(names["logits"], stepped, atol=1e-6)
    assert result.valid_count == 256 and result.conditions.clean

    code = second.replace('"unix:/run/softloss.sock"', repr(server.address))
    assert server.address in code
    exec(compile(code, "README.md", "exec"), names)
    result, x = names["result"], names["logits"].astype(np.float64)
    expected = (np.log(np.exp(x).sum(-1)) - x.mean(-1)).mean()
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert result.transport == "shared_memory"


def test_the_cpp_example_is_part_of_the_program_that_is_built() -> None:
    program = (REPOSITORY / "examples" / "score.cc").read_text()
    (code,) = blocks("cpp")
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    assert len(lines) > 5
    position = 0
    for line in lines:
        found = program.find(line, position)
        assert found >= 0, f"examples/score.cc lacks, after the lines before it: {line}"
        position = found + len(line)
