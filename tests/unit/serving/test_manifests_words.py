"""The version of KServe by what its schema shows, and what each version knows."""

import pytest

from runbook_lib.errors import PreflightError
from runbook_lib.serving.kserve_words import FEATURES, KServe, from_image, from_schema


def schema(*paths):
    made = {}
    for path in paths:
        here = made
        for word in path.split("."):
            here = here.setdefault("properties", {}).setdefault(word, {})
    return made


# The fields that each release's InferenceService has, as far as they tell it from others.
RELEASES = {
    (0, 15): ["spec.predictor.autoScaling"],
    (0, 16): ["spec.predictor.autoScaling", "spec.predictor.storageUris"],
    (0, 17): ["spec.predictor.storageUris", "spec.predictor.logger.batchSize"],
    (0, 20): ["spec.predictor.logger.batchSize", "spec.canary"],
    (0, 21): ["spec.canary", "spec.tracing"],
}


@pytest.mark.parametrize("version", RELEASES)
def test_the_newest_field_tells_the_version(version):
    assert from_schema(schema(*RELEASES[version])).version == version


def test_a_schema_with_a_text_of_its_own_is_looked_through():
    wrapped = {"properties": {"spec": {"allOf": [schema("canary")], "description": "x"}}}
    assert from_schema(wrapped).version == (0, 20)


def test_a_crd_without_fields_tells_nothing():
    assert from_schema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}) is None


def test_the_managers_image_tells_its_version_unless_it_has_none():
    assert from_image("kserve/kserve-controller:v0.17.1").version == (0, 17)
    assert from_image("registry.example.com/kserve/kserve-controller:v0.16.0-rc1").version == (
        0,
        16,
    )
    assert from_image("kserve/kserve-controller:latest") is None


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_refused_by_the_version_before_and_taken_by_the_one_that_brought_it(feature):
    (major, minor), _ = FEATURES[feature]
    KServe((major, minor), "a test").need(feature, "setting")
    with pytest.raises(
        PreflightError, match=rf"setting needs KServe {major}\.{minor}; .* has {major}\.{minor - 1}"
    ):
        KServe((major, minor - 1), "a test").need(feature, "setting")


def test_the_words_are_those_of_the_version():
    assert KServe((0, 15), "").deployment_mode == "RawDeployment"
    assert KServe((0, 16), "").deployment_mode == "Standard"
