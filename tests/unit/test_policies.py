"""A policy: its fields, what it skips, and its sampling."""

from typing import Any

import pytest
from bson import ObjectId

from worker.closings.policies import DEFAULT, Policy
from worker.errors import InvalidRequest
from worker.settings import Settings

CONVERSATIONS = [ObjectId(f"6a1b2c3d4e5f6071{number:08x}") for number in range(4000)]


def sampled(share: float) -> set[ObjectId]:
    policy = Policy(sampling_share=share)
    return {each for each in CONVERSATIONS if policy.is_in_sample(each)}


def test_default_is_enabled_and_requires_two_messages() -> None:
    assert DEFAULT.skip_reason(CONVERSATIONS[0], []) is None
    assert [DEFAULT.skip_reason_by_count(count, 0, 0) for count in (1, 2)] == ["too_few_messages", None]
    assert DEFAULT.to_json() == {
        "enabled": True,
        "channelTypes": None,
        "minimumMessages": 2,
        "minimumFromContact": 0,
        "minimumFromUser": 0,
        "samplingShare": 1.0,
        "tags": [],
        "category": None,
        "quality": None,
        "settleSeconds": None,
        "redact": [],
        "redactRegions": [],
        "redactVersion": 0,
        "keepFor": [],
    }


def test_sampling_depends_on_the_conversation_only() -> None:
    quarter = sampled(0.25)
    assert quarter == sampled(0.25)
    assert 0.22 < len(quarter) / len(CONVERSATIONS) < 0.28
    assert not sampled(0)
    assert len(sampled(1)) == len(CONVERSATIONS)


def test_larger_share_includes_the_smaller_one() -> None:
    assert sampled(0.1) < sampled(0.3) < sampled(0.9)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"enabled": "yes"}, "enabled: "),
        ({"channelTypes": []}, "channelTypes: should name at least one channel type"),
        ({"channelTypes": [" "]}, "channelTypes: should name at least one channel type"),
        ({"minimumMessages": -1}, "minimumMessages: should be greater than or equal to 0"),
        ({"minimumFromContact": 1.5}, "minimumFromContact: "),
        ({"samplingShare": 1.1}, "samplingShare: should be less than or equal to 1"),
        ({"samplingShare": float("nan")}, "samplingShare: "),
        ({"settleSeconds": 90_000}, "settleSeconds: should be less than or equal to 86400"),
        ({"tags": ["x" * 101]}, "tags: tag 0 should have at most 100 characters, but has 101"),
        ({"category": "x" * 101}, "category: should have at most 100 characters"),
        ({"sampling": 1}, "sampling: unknown field; the allowed fields are enabled, channelTypes"),
    ],
)
def test_invalid_field_is_named_with_what_is_allowed(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Policy.read(fields, Settings.model_construct())
    assert said in raised.value.message


def test_settle_delay_is_the_setting_unless_the_policy_has_its_own() -> None:
    settings = Settings.model_construct(settle_seconds=30)
    assert Policy().settle_delay(settings).total_seconds() == 30
    assert Policy(settle_seconds=0).settle_delay(settings).total_seconds() == 0
