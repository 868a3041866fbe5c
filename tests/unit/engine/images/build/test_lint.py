from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.images.build.lint import check, policy_of
from tests.unit.engine.images.build.fakes import solver


def rules(text: str) -> list[str]:
    return [f"{finding.place.line} {finding.rule}" for finding in check(text, "Dockerfile")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('FROM a\nRUN b\nCMD ["c"]\n', []),
        ("FROM a AS B\nRUN c", ["1 StageNameCasing"]),
        ("FROM a as b\nRUN c", ["1 FromAsCasing"]),
        ("from a as b\nrun c", []),
        ("FROM a\nrun c\nRUN d", ["2 ConsistentInstructionCasing"]),
        ("from a\nrun c\nRun d", ["3 ConsistentInstructionCasing"]),
        ("FROM a AS b\nFROM a AS b", ["2 DuplicateStageName"]),
        ("FROM a AS scratch", ["1 ReservedStageName"]),
        ("FROM a\nRUN b \\\n\n  c", ["3 NoEmptyContinuation"]),
        ("FROM a\nRUN b \\\n# comment\n  c \\\n\n", []),
        ("FROM a\nCMD b", ["2 JSONArgsRecommended"]),
        ('FROM a\nSHELL ["x"]\nCMD b', []),
        ("FROM a\nMAINTAINER b", ["2 MaintainerDeprecated"]),
        ("FROM $A", ["1 UndefinedArgInFrom"]),
        ("ARG A\nFROM b:$A", ["2 InvalidDefaultArgInFrom"]),
        ("ARG A=1\nFROM b:$A", []),
        ("ARG A\nFROM b:${A:-1}", []),
        ("FROM a\nWORKDIR b", ["2 WorkdirRelativePath"]),
        ('FROM a\nCMD ["b"]\nCMD ["c"]', ["2 MultipleInstructionsDisallowed"]),
        ("FROM a\nENV b c", ["2 LegacyKeyValueFormat"]),
        ("FROM --platform=$TARGETPLATFORM a", ["1 RedundantTargetPlatform"]),
        ("FROM --platform=linux/amd64 a", ["1 FromPlatformFlagConstDisallowed"]),
        ("FROM --platform=linux/amd64 a AS b-amd64", []),
        ("FROM --platform=$BUILDPLATFORM a", []),
        (
            "FROM a\nARG API_KEY\nENV B_TOKEN=1\nENV PUBLIC_KEY=1",
            ["2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"],
        ),
        ("FROM a\nEXPOSE 80/TCP 81/udp", ["2 ExposeProtoCasing"]),
    ],
)
def test_each_rule_finds_what_it_is_for(text: str, found: list[str]) -> None:
    assert rules(text) == found


def test_a_directive_leaves_rules_out_and_makes_the_rest_errors() -> None:
    text = "FROM a\nMAINTAINER b\nCMD c"
    assert rules(f"# check=skip=maintainerdeprecated\n{text}") == ["4 JSONArgsRecommended"]
    assert rules(f"# syntax=x\n# check=skip=all\n{text}") == []
    policy = policy_of(f"# check=skip=JSONArgsRecommended;error=true\n{text}", "Dockerfile", {})
    with pytest.raises(InvalidInput, match=r"Dockerfile:2:1: .*MaintainerDeprecated") as caught:
        policy.enforce(policy.wanted(check(text, "Dockerfile")))
    assert "JSONArgsRecommended" not in caught.value.message
    assert not policy_of(f"# check=error=true\n{text}", "Dockerfile", {"BUILDKIT_DOCKERFILE_CHECK": "skip=x"}).is_error


@pytest.mark.parametrize("words", ["error=perhaps", "skipp=all", "x"])
def test_a_broken_directive_is_told_with_its_place(words: str) -> None:
    with pytest.raises(InvalidInput, match=r"Dockerfile:1:1: cannot read"):
        check(f"# check={words}\nFROM a", "Dockerfile")


def test_a_variable_without_a_value_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    text = "FROM debian\nARG VERSION=1\nARG EMPTY\nENV A=$VERSIONS B=${C:-d} PATH=$PATH:/x E=$LANG\nWORKDIR /$EMPTY\nUSER a$NONE\n"
    found = [str(finding) for finding in solver(text, tmp_path)[0].findings]
    assert found == [
        "Dockerfile:4:1: UndefinedVar: $VERSIONS has no value here; did you mean $VERSION?",
        "Dockerfile:6:1: UndefinedVar: $NONE has no value here",
    ]


def test_of_stages_with_one_name_the_last_counts(tmp_path: Path) -> None:
    text = "FROM debian AS a\nENV A=1\nFROM debian AS a\nENV A=2\nFROM a\nENV B=$A\n"
    assert solver(text, tmp_path)[1].settings.env["B"] == "2"
