"""The unit of systemd and the manifests of Kubernetes in docs/howto: other programs can read them, and `engine` their command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml
from engine.cli.commands import app
from engine.runtime.config import SessionConfig
from engine.runtime.live_metrics import METRICS, PREFIX
from engine.toml_text import parse_toml

HOWTO = Path(__file__).parents[1] / "docs" / "howto"


def block(page: str, kind: str) -> str:
    found = re.findall(rf"^```{kind}\n(.*?)^```", (HOWTO / page).read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def parsed(words: list[str]) -> dict[str, object]:
    """Options of `engine live` as the command line reads them."""
    assert words[:1] == ["live"]
    command = typer.main.get_command(app).commands["live"]  # type: ignore[attr-defined]
    return dict(command.make_context("live", words[1:], resilient_parsing=False).params)


def test_unit_is_one_that_systemd_accepts_and_its_command_is_one_of_ours(tmp_path: Path) -> None:
    unit = block("systemd.md", "ini")
    start = re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    assert start is not None
    program, *words = shlex.split(start[1])
    assert parsed(words)["metrics"] == "9464"
    assert parsed(words)["log_json"] is True
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was not verified")
    stand_in = tmp_path / "engine"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    path = tmp_path / "engine-live.service"

    def verify(text: str) -> tuple[int, str]:
        path.write_text(text)
        words = ["systemd-analyze", "verify", "--man=no", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode, "\n".join(line for line in done.stderr.splitlines() if "engine-live" in line)

    assert verify(unit.replace(program, str(stand_in))) == (0, "")
    # It notices a mistake.
    assert "Unknown key" in verify(unit.replace(program, str(stand_in)).replace("WatchdogSec", "WatchdogSecs"))[1]


def test_manifests_are_yaml_with_the_ports_probes_and_command_of_ours() -> None:
    config, pod_set = yaml.safe_load_all(block("kubernetes.md", "yaml"))
    whole = SessionConfig.of(parse_toml(config["data"]["session.toml"]))
    assert whole.session.mode == "live"
    spec = pod_set["spec"]["template"]["spec"]
    [container] = spec["containers"]
    program, *words = container["command"]
    options = parsed(words)
    [port] = container["ports"]
    assert program == "engine"
    assert options["metrics"] == f"0.0.0.0:{port['containerPort']}"
    assert pod_set["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/readyz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(options["config"]).startswith(mounted["config"])
    assert whole.export is not None
    assert str(whole.export.target).startswith(mounted["data"])
    assert str(whole.source.options["key_file"]).startswith(mounted["keys"])
    claimed = {claim["metadata"]["name"] for claim in pod_set["spec"]["volumeClaimTemplates"]}
    assert set(mounted) == claimed | {volume["name"] for volume in spec["volumes"]}
    assert pod_set["spec"]["replicas"] == 1
    assert pod_set["spec"]["selector"]["matchLabels"] == pod_set["spec"]["template"]["metadata"]["labels"]


def test_alerts_name_metrics_that_exist() -> None:
    [group] = yaml.safe_load(block("monitoring.md", "yaml"))["groups"]
    used = {name for rule in group["rules"] for name in re.findall(PREFIX + r"\w+", rule["expr"])}
    assert used <= {PREFIX + one.name + ("_total" if one.kind == "counter" else "") for one in METRICS}
    assert len(used) >= 5
