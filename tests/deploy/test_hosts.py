"""One host, and a cluster of containers: what their own tools take, and what fits the program."""

import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose
from deployed import DEPLOY, documents
from typer.main import get_command

from dispatcher.cli import app
from dispatcher.settings import Settings

COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"
OBJECTS = [*documents(KUBERNETES / "lookback.yaml"), *documents(KUBERNETES / "scale.yaml")]


def tool(name, *arguments):
    """Run a tool of this environment."""
    return subprocess.run(
        [Path(sysconfig.get_path("scripts")) / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def of_kind(kind):
    (found,) = [each for each in OBJECTS if each["kind"] == kind]
    return found


def pod():
    return of_kind("StatefulSet")["spec"]["template"]["spec"]


def container():
    (found,) = pod()["containers"]
    return found


def service():
    return yaml.safe_load(COMPOSE.read_text())["services"]["lookback"]


def unknown(words):
    """Options of a command line that the command does not have."""
    command, *rest = words
    known = {each for p in get_command(app).commands[command].params for each in p.opts}
    return {word for word in rest if word.startswith("--")} - known


def settings_of(environment):
    """What the settings are under such an environment (of strings)."""
    given = {k: v for k, v in environment.items() if k.startswith("LOOKBACK_")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        return Settings()


def test_the_compose_file_is_one():
    # What is merged in (<<) is YAML's, and no part of the specification.
    merged = yaml.safe_dump(yaml.safe_load(COMPOSE.read_text()))
    assert PyCompose.from_yaml(merged).validate() is None
    with pytest.raises(ValueError, match="imagee"):
        PyCompose.from_yaml(merged.replace("image:", "imagee:", 1))


def test_the_compose_file_has_nothing_that_is_dangerous():
    done = tool("compose-lint", "check", COMPOSE)
    assert done.returncode == 0, done.stdout
    assert "threshold: high" in done.stdout


def test_the_service_of_the_host_runs_a_command_that_exists():
    assert unknown(service()["command"]) == set()


def test_the_service_of_the_host_has_settings_that_exist():
    chosen = settings_of(service()["environment"])
    assert chosen.sinks.required[0].startswith("postgresql://")
    assert chosen.spend.ledger.startswith("postgresql://")
    assert chosen.flow.grace_s < int(service()["stop_grace_period"].removesuffix("s"))
    assert f"http://127.0.0.1:{chosen.status.port}/live" in service()["healthcheck"]["test"][-1]


def test_no_port_of_the_host_is_open_to_the_world():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert not [name for name, each in services.items() if "ports" in each]


def test_what_kubernetes_knows_it_takes():
    done = tool("kubernetes-validate", "--strict", KUBERNETES / "lookback.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pod_runs_a_command_that_exists():
    assert unknown(container()["args"]) == set()


def test_the_pod_has_settings_that_exist():
    text = of_kind("ConfigMap")["data"]["lookback.toml"]
    chosen = Settings.model_validate(tomllib.loads(text))
    assert chosen.flow.grace_s < pod()["terminationGracePeriodSeconds"]
    (port,) = container()["ports"]
    assert port["containerPort"] == chosen.status.port
    assert chosen.status.host == "0.0.0.0"
    given = {each["name"]: each.get("value", "x") for each in container()["env"]}
    assert settings_of(given).workers.count == 2
    assert given["LOOKBACK_KAFKA__INSTANCE_ID"] == "$(POD)"


def test_the_pod_is_asked_for_its_health():
    probes = {name: container()[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    (port,) = container()["ports"]
    assert {each["httpGet"]["port"] for each in probes.values()} == {port["name"]}
    paths = {name: each["httpGet"]["path"] for name, each in probes.items()}
    assert paths == {"startup": "/live", "readiness": "/ready", "liveness": "/live"}
    annotations = of_kind("StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_the_pod_can_do_little():
    assert pod()["securityContext"]["runAsNonRoot"]
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    assert container()["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    written = {each["mountPath"] for each in container()["volumeMounts"] if "readOnly" not in each}
    assert written == {"/srv/results", "/tmp"}


def test_only_who_collects_metrics_may_come():
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert [each["port"] for each in rule["ports"]] == [container()["ports"][0]["containerPort"]]


def test_it_scales_what_is_there_on_the_lag_of_its_own_group():
    target = of_kind("ScaledObject")["spec"]
    stateful = of_kind("StatefulSet")
    assert target["scaleTargetRef"] == {
        "apiVersion": stateful["apiVersion"],
        "kind": "StatefulSet",
        "name": stateful["metadata"]["name"],
    }
    (trigger,) = target["triggers"]
    settings = tomllib.loads(of_kind("ConfigMap")["data"]["lookback.toml"])
    assert trigger["type"] == "kafka"
    assert trigger["metadata"]["consumerGroup"] == settings["kafka"]["group"]
    source = container()["args"][1]
    assert source == (
        f"kafka://{trigger['metadata']['bootstrapServers']}/{trigger['metadata']['topic']}"
    )
    assert (
        trigger["authenticationRef"]["name"] == of_kind("TriggerAuthentication")["metadata"]["name"]
    )
