"""`--check`: what in a Dockerfile works but is better written otherwise. The rules have BuildKit's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.images.build import instructions as ins
from engine.images.build.parse import Place, parse
from engine.images.build.stages import Dockerfile, Stage, group

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_PUBLIC_NAME = re.compile(r"(?:^|_)public(?:_|$)", re.IGNORECASE)
_LAST_COUNTS = (ins.Cmd, ins.Entrypoint, ins.Healthcheck)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to write otherwise."""

    place: Place
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.message}"


def check(text: str, file: str) -> list[Finding]:
    """Check a Dockerfile. Raise InvalidInput where it cannot be read at all."""
    dockerfile = group(parse(text, file), file)
    findings = [finding for rule in _RULES for finding in rule(dockerfile)]
    return sorted(findings, key=lambda finding: (finding.place.line, finding.rule))


def _all(dockerfile: Dockerfile) -> Iterator[ins.Instruction]:
    for stage in dockerfile.stages:
        yield from stage.instructions


def _maintainer(dockerfile: Dockerfile) -> Iterator[Finding]:
    for item in _all(dockerfile):
        if isinstance(item, ins.Maintainer):
            yield Finding(item.place, "MaintainerDeprecated", "use LABEL org.opencontainers.image.authors")


def _shell_form(dockerfile: Dockerfile) -> Iterator[Finding]:
    for stage in dockerfile.stages:
        if any(isinstance(item, ins.Shell) for item in stage.instructions):
            continue
        for item in stage.instructions:
            if isinstance(item, ins.Cmd | ins.Entrypoint) and item.command.shell:
                keyword = item.text.split()[0]
                yield Finding(
                    item.place, "JSONArgsRecommended", f'write {keyword} ["…"], so that signals reach the program'
                )


def _relative_workdir(dockerfile: Dockerfile) -> Iterator[Finding]:
    for stage in dockerfile.stages:
        for item in stage.instructions:
            if isinstance(item, ins.Workdir):
                if not item.path.strip("\"'").startswith(("/", "$")):
                    yield Finding(item.place, "WorkdirRelativePath", f"{item.path} depends on the base image's WORKDIR")
                break


def _repeated(dockerfile: Dockerfile) -> Iterator[Finding]:
    for stage in dockerfile.stages:
        for kind in _LAST_COUNTS:
            found = [item for item in stage.instructions if isinstance(item, kind)]
            for item in found[:-1]:
                keyword = item.text.split()[0]
                yield Finding(
                    item.place, "MultipleInstructionsDisallowed", f"only the last {keyword} of a stage counts"
                )


def _secret_names(dockerfile: Dockerfile) -> Iterator[Finding]:
    for item in (*dockerfile.global_args, *_all(dockerfile)):
        for name, _ in item.pairs if isinstance(item, ins.Arg | ins.Env) else ():
            if _SECRET_NAME.search(name) and not _PUBLIC_NAME.search(name):
                keyword = item.text.split()[0]
                yield Finding(
                    item.place,
                    "SecretsUsedInArgOrEnv",
                    f"{keyword} {name} stays in the image; use RUN --mount=type=secret",
                )


def _legacy_pairs(dockerfile: Dockerfile) -> Iterator[Finding]:
    for item in _all(dockerfile):
        if isinstance(item, ins.Env | ins.Label) and len(item.pairs) == 1 and "=" not in item.text.split()[1]:
            keyword = item.text.split()[0]
            yield Finding(item.place, "LegacyKeyValueFormat", f"write {keyword} {item.pairs[0][0]}=value")


def _stage_names(dockerfile: Dockerfile) -> Iterator[Finding]:
    for stage in dockerfile.stages:
        words = stage.from_.text.split()
        if stage.from_.name in ("scratch", "context"):
            yield Finding(stage.from_.place, "ReservedStageName", f"{stage.from_.name} means something else")
        if stage.from_.name and words[-1] != stage.from_.name:
            yield Finding(stage.from_.place, "StageNameCasing", f"write {words[-1]} in lower case")


def _redundant_platform(dockerfile: Dockerfile) -> Iterator[Finding]:
    for stage in dockerfile.stages:
        if stage.from_.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield Finding(stage.from_.place, "RedundantTargetPlatform", "this is the platform anyway")


def _unknown_args(dockerfile: Dockerfile) -> Iterator[Finding]:
    """A FROM whose only variable is declared nowhere."""
    declared = {name for arg in dockerfile.global_args for name, _ in arg.pairs}
    for stage in dockerfile.stages:
        for name in _variables(stage):
            if name not in declared and not name.startswith(("BUILD", "TARGET")):
                yield Finding(stage.from_.place, "UndefinedArgInFrom", f"no ARG above the first FROM declares {name}")


def _variables(stage: Stage) -> list[str]:
    return re.findall(r"\$\{?([A-Za-z_]\w*)", stage.from_.image)


_RULES: tuple[Callable[[Dockerfile], Iterator[Finding]], ...] = (
    _maintainer,
    _shell_form,
    _relative_workdir,
    _repeated,
    _secret_names,
    _legacy_pairs,
    _stage_names,
    _redundant_platform,
    _unknown_args,
)
