# SPDX-License-Identifier: Apache-2.0
"""The verbs on a cluster, and what they say when the API server refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.faultline.gpu.plugins.module_utils import _client as client
from ansible_collections.faultline.gpu.plugins.module_utils._client import NODE, POD, Cluster, Kind
from ansible_collections.faultline.gpu.plugins.module_utils._errors import FaultlineError
from fake_api import Api, refusal
from graph_recordings import refused

Object = dict[str, Any]


def pod(name: str) -> Object:
    meta = {"name": name, "namespace": "drill", "labels": {"x": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}}


def test_what_is_not_there_is_none_and_deleting_it_changes_nothing(api: Api) -> None:
    cluster = api.cluster()
    assert cluster.get(POD, "a", "drill") is None
    assert cluster.patch(POD, "a", {"spec": {"x": 1}}, "drill") is None
    assert cluster.delete(POD, "a", "drill") is False
    api.put(pod("a"))
    assert (cluster.get(POD, "a", "drill") or {})["metadata"]["name"] == "a"
    assert (cluster.patch(POD, "a", {"spec": {"x": 1}}, "drill") or {})["spec"] == {"x": 1}
    assert cluster.delete(POD, "a", "drill") is True
    assert api.all("Pod") == []


def test_a_list_has_what_the_kind_selects(api: Api) -> None:
    for name in ("a", "b"):
        api.put(pod(name))
    cluster = api.cluster()

    def names(kind: Kind) -> list[str]:
        return [found["metadata"]["name"] for found in cluster.list(kind)]

    assert names(POD) == ["a", "b"]
    assert names(Kind("v1", "Pod", "drill", name="b")) == ["b"]
    assert names(Kind("v1", "Pod", "drill", label_selector="x=a")) == ["a"]
    assert names(Kind("v1", "Pod", "other")) == []
    assert names(NODE) == []


def test_a_kind_that_the_cluster_does_not_know_is_told_and_can_be_asked_for(api: Api) -> None:
    api.unknown.add("GPUHost")
    cluster = api.cluster()
    assert cluster.has(POD)
    assert not cluster.has(client.HOST)
    with pytest.raises(FaultlineError, match=r"knows no GPUHost \(faultline.dev/v1alpha1\)"):
        cluster.list(client.HOST)


def test_a_kind_that_was_removed_is_not_known_although_the_client_remembers_it(api: Api) -> None:
    api.refuses_looks["GPUHost"] = 404
    assert not api.cluster().has(client.HOST)


def test_a_kind_that_one_may_not_list_is_known_all_the_same(api: Api) -> None:
    api.refuses_looks["GPUHost"] = 403
    assert api.cluster().has(client.HOST)


def test_a_cluster_in_trouble_does_not_say_that_it_knows_no_such_kind(api: Api) -> None:
    api.refuses_looks["GPUHost"] = 500
    with pytest.raises(FaultlineError, match="Cannot list GPUHost"):
        api.cluster().has(client.HOST)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (POD, "Pod"),
        (Kind("v1", "Pod", "drill"), "Pod in drill"),
        (Kind("v1", "Pod", "drill", "a"), "Pod a in drill"),
        (Kind("v1", "Pod", label_selector="x=1"), "Pod with x=1"),
    ],
)
def test_a_kind_is_named_as_a_person_would(kind: Kind, text: str) -> None:
    assert str(kind) == text


def answering(*answers: Any) -> tuple[Cluster, list[Object]]:
    """A cluster whose GET, apply and delete give these answers, one after the other."""
    calls: list[Object] = []
    left = list(answers)

    def call(**arguments: Any) -> Any:
        calls.append(arguments)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(to_dict=lambda: answer)

    verbs = SimpleNamespace(get=call, server_side_apply=call, delete=call, patch=call)
    found = Cluster.__new__(Cluster)
    found.dynamic = SimpleNamespace(resources=SimpleNamespace(get=lambda **_: verbs))
    return found, calls


def test_a_refusal_is_a_sentence_with_the_api_servers_own_words_and_its_status() -> None:
    cluster, _calls = answering(refusal(409, "Apply failed with 1 conflict: .spec.x"))
    with pytest.raises(FaultlineError) as error:
        cluster.apply(pod("a"), "me")
    assert str(error.value) == "Cannot apply Pod a: Apply failed with 1 conflict: .spec.x"
    assert error.value.details == {"status": 409, "said": "Apply failed with 1 conflict: .spec.x"}


def test_a_refusal_without_words_names_its_status() -> None:
    bare = refusal(503, "")
    bare.body = "no JSON"
    cluster, _calls = answering(bare)
    with pytest.raises(FaultlineError, match=r"^Cannot list Pod: 503 Refused$"):
        cluster.list(POD)


def test_apply_says_who_applies_and_forces_nothing_unless_told() -> None:
    cluster, calls = answering({}, {}, {})
    cluster.apply(pod("a"), "me")
    cluster.apply(pod("a"), "me", dry_run=True)
    cluster.apply(pod("a"), "me", force=True)
    assert {c["field_manager"] for c in calls} == {"me"}
    assert [c["force_conflicts"] for c in calls] == [False, False, True]
    assert [c.get("dry_run") for c in calls] == [None, "All", None]
    assert {(c["name"], c["namespace"]) for c in calls} == {("a", "drill")}


def test_a_webhook_whose_pod_is_away_is_given_time_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    at_once = SimpleNamespace(Event=lambda: SimpleNamespace(wait=waits.append))
    monkeypatch.setattr(client, "threading", at_once)
    away = refusal(500, 'Internal error occurred: failed calling webhook "dgd": no endpoints')
    cluster, calls = answering(away, away, {"spec": {}})
    assert cluster.apply(pod("a"), "me") == {"spec": {}}
    assert (len(calls), len(waits)) == (3, 2)
    monkeypatch.setattr(client, "WEBHOOK_PATIENCE", 0.0)
    cluster, calls = answering(away)
    with pytest.raises(FaultlineError, match="failed calling webhook"):
        cluster.apply(pod("a"), "me")
    assert len(calls) == 1


def test_a_refusal_is_explained_with_what_was_sent_and_keeps_the_api_servers_words() -> None:
    said = refused("no runtimeVersionOverride with a non-semver tag")
    error = refusal(422, "")
    error.body = json.dumps(said["response_json"])
    cluster, _calls = answering(error)
    with pytest.raises(FaultlineError, match="component decode, runtimeVersionOverride") as found:
        cluster.apply(said["request_json"], "me")
    assert found.value.details["said"] == said["response_json"]["message"]


def test_a_foreground_deletion_is_asked_for_as_such() -> None:
    cluster, calls = answering({}, refusal(404, "not found"))
    assert cluster.delete(POD, "a", "drill", propagationPolicy="Foreground") is True
    assert calls[0]["body"] == {"propagationPolicy": "Foreground"}
    assert cluster.delete(POD, "a", "drill") is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kubeconfig": "/nowhere/config"}, "There is no kubeconfig /nowhere/config: name the "),
        ({}, "There is no kubeconfig (/nowhere/config) and this is no pod: name the "),
    ],
)
def test_without_a_way_to_a_cluster_the_user_is_told_what_to_give(
    monkeypatch: pytest.MonkeyPatch, given: Object, said: str
) -> None:
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(FaultlineError) as error:
        Cluster(**given)
    assert str(error.value).startswith(said)


def test_an_api_server_that_does_not_answer_is_named(tmp_path: Any) -> None:
    path = tmp_path / "config"
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: c,"
        " clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}],"
        " contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}"
    )
    with pytest.raises(FaultlineError) as error:
        Cluster(str(path))
    assert str(error.value) == (
        "The API server at http://127.0.0.1:9 does not answer (Connection refused): start it, or "
        "name another kubeconfig."
    )


def test_an_account_that_the_api_server_refuses_is_not_taken_for_a_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from kubernetes import dynamic
    from kubernetes.client import ApiException

    def refuse(_client: Any) -> None:
        raise ApiException(status=401, reason="Unauthorized")

    monkeypatch.setattr(dynamic, "DynamicClient", refuse)
    path = tmp_path / "config"
    path.write_text(
        "{current-context: c, clusters: [{name: c, cluster: {server: 'https://k8s'}}],"
        " contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}"
    )
    with pytest.raises(FaultlineError, match=r"401 Unauthorized\. Look at the account"):
        Cluster(str(path))
