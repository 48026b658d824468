"""The alert rules: valid, fire when they should, and ask for metrics that exist."""

import pathlib
import re
import subprocess

from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "compose" / "rules.yml"


def test_promtool_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", RULES], check=True)


def test_the_rules_fire_when_they_should() -> None:
    tests = pathlib.Path(__file__).with_name("rules_test.yml")
    done = subprocess.run(["promtool", "test", "rules", tests], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tested() -> None:
    rules = YAML(typ="safe").load(RULES.read_text())["groups"][0]["rules"]
    tested = pathlib.Path(__file__).with_name("rules_test.yml").read_text()
    for rule in rules:
        assert f"alertname: {rule['alert']}\n" in tested


def test_the_rules_ask_for_documented_metrics() -> None:
    asked = set(re.findall(r"\b(softloss_\w+)", RULES.read_text()))
    documented = set(re.findall(r"`(softloss_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert asked and asked <= documented


def test_prometheus_gets_the_rules() -> None:
    compose = YAML(typ="safe").load((RULES.parent / "compose.yaml").read_text())
    assert any(
        volume.startswith("./rules.yml:/etc/prometheus/rules.yml")
        for volume in compose["services"]["prometheus"]["volumes"]
    )
