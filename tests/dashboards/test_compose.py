"""The deployment files: what they mount exists, what they load is what is tested, and nothing leaves this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.roles import ADMIN_OFFSET, ADMIN_PORT, PORT
from tests.dashboards.documents import ALERTS, ALERTS_TESTS, OVERVIEW, PROMETHEUS, ROOT, read_yaml
from tests.dashboards.test_alerts import assert_exists

STACK = ROOT / "deploy" / "stack"
COMPOSE = read_yaml(STACK / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (STACK / "Dockerfile").read_text()


def mounts(service: str) -> dict[str, Path]:
    """From the path in the container to the file or folder here; named volumes left out."""
    bound = [volume.split(":") for volume in SERVICES[service]["volumes"] if volume.startswith(".")]
    return {inside: (STACK / outside).resolve() for outside, inside, *_ in bound}


@pytest.mark.parametrize("service", SERVICES)
def test_everything_mounted_exists_and_every_named_volume_is_declared(service: str) -> None:
    assert [path for path in mounts(service).values() if not path.exists()] == []
    named = {volume.split(":")[0] for volume in SERVICES[service].get("volumes", []) if not volume.startswith(".")}
    assert named <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_open_on_loopback_only(service: str) -> None:
    assert SERVICES[service]["ports"]
    assert [port for port in SERVICES[service]["ports"] if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_images_of_others_are_pinned(service: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_prometheus_loads_the_rules_that_are_tested() -> None:
    inside = mounts("prometheus")
    assert inside["/etc/prometheus/prometheus.yml"] == PROMETHEUS
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]
    (rules,) = read_yaml(PROMETHEUS)["rule_files"]
    tested = {(path.parent / rule).resolve() for path in ALERTS_TESTS for rule in read_yaml(path)["rule_files"]}
    assert {inside[f"/etc/prometheus/{rules}"]} == tested == {ALERTS}


def test_prometheus_scrapes_the_admin_port_of_every_role() -> None:
    (job,) = read_yaml(PROMETHEUS)["scrape_configs"]
    found = {config["labels"]["role"]: config["targets"] for config in job["static_configs"]}
    assert found == {role: [f"trimtab:{ADMIN_PORT + offset}"] for role, offset in ADMIN_OFFSET.items()}
    assert job["job_name"] == "trimtab"


@pytest.mark.slow
def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    for inside, outside in mounts("prometheus").items():
        shutil.copy(outside, tmp_path / Path(inside).name)
    command = [promtool, "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_given_the_data_source_and_the_dashboard() -> None:
    inside = mounts("grafana")
    (source,) = read_yaml(inside["/etc/grafana/provisioning/datasources"] / "prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    interval = read_yaml(PROMETHEUS)["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = read_yaml(inside["/etc/grafana/provisioning/dashboards"] / "trimtab.yaml")["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert inside[home] == OVERVIEW
    assert home == f"{provider['options']['path']}/{OVERVIEW.name}"


def test_trimtab_is_started_as_the_command_line_has_it() -> None:
    service = SERVICES["trimtab"]
    assert_exists(" ".join(["trimtab", *service["command"]]))
    outside = {port.rsplit(":", 1)[1] for port in service["ports"]}
    assert outside == {str(PORT), str(ADMIN_PORT)}
    build = service["build"]
    assert (STACK / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    state = re.search(r"TRIMTAB_STATE=(\S+)", DOCKERFILE)
    assert state is not None
    assert f"state:{state[1]}" in service["volumes"]


def test_the_keys_that_compose_wants_are_explained_with_commands_that_exist() -> None:
    text = (STACK / "compose.yaml").read_text()
    commands = re.findall(r"run --rm trimtab (keys create .*)", text)
    assert len(commands) == 2
    for command in commands:
        assert_exists(f"trimtab {command}")


def test_the_image_runs_as_nobody_in_particular_with_locked_hashes() -> None:
    assert "--require-hashes -r /tmp/requirements.lock" in DOCKERFILE
    assert re.search(r"^USER trimtab$", DOCKERFILE, re.MULTILINE)
    assert "FROM python:3.11-slim" in DOCKERFILE


def test_everything_that_the_image_copies_exists_and_is_let_through() -> None:
    let_through = set(re.findall(r"^!(\S+)$", (STACK / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    copied = {word for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert copied
    assert copied == let_through
    assert [name for name in copied if not (ROOT / name).exists()] == []
