"""What in a Dockerfile works but is better written otherwise. The rules have BuildKit's names.

Every build tells it as warnings. The directive `# check=skip=RULE,RULE;error=true` leaves rules out and makes the rest errors, and
so does the build argument BUILDKIT_DOCKERFILE_CHECK, which goes before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from engine.errors import InvalidInput, UmiakError
from engine.frozen import frozen
from engine.images.build import instructions as ins
from engine.images.build.expand import expand
from engine.images.build.parse import Place, Statement, directives, lines_of, parse
from engine.images.build.stages import Dockerfile, Stage, group
from engine.images.reference import Reference

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_PUBLIC_NAME = re.compile(r"(?:^|_)public(?:_|$)", re.IGNORECASE)
_LAST_COUNTS = (ins.Cmd, ins.Entrypoint, ins.Healthcheck)
_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"


@frozen
class Finding:
    """One thing to write otherwise."""

    place: Place
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.message}"


@frozen
class Policy:
    """Which rules count, and whether what they find is an error."""

    skips_all: bool = False
    skip: frozenset[str] = frozenset()
    is_error: bool = False

    def wanted(self, findings: Sequence[Finding]) -> list[Finding]:
        """What is left of findings, in the order of the file."""
        left = [] if self.skips_all else [finding for finding in findings if finding.rule.lower() not in self.skip]
        return sorted(left, key=lambda finding: (finding.place.line, finding.rule))

    def enforce(self, findings: Sequence[Finding]) -> None:
        """Raise InvalidInput for the first finding if they are errors."""
        if self.is_error and findings:
            rules = ", ".join(dict.fromkeys(finding.rule for finding in findings))
            raise InvalidInput(
                f"{findings[0].message} ({rules}); the Dockerfile makes such warnings errors",
                hint="mend it, or change its directive # check=error=true",
                place=str(findings[0].place),
            )


def check(text: str, file: str, args: Mapping[str, str | None] | None = None) -> list[Finding]:
    """Check a Dockerfile. Raise InvalidInput where it cannot be read at all."""
    statements = parse(text, file)
    return policy_of(text, file, args or {}).wanted(findings_in(statements, group(statements, file)))


def findings_in(statements: Sequence[Statement], dockerfile: Dockerfile) -> list[Finding]:
    """What all rules find."""
    found = [finding for rule in _RULES for finding in rule(dockerfile)]
    return found + [finding for text_rule in _TEXT_RULES for finding in text_rule(statements)]


def policy_of(text: str, file: str, args: Mapping[str, str | None]) -> Policy:
    """What the directive `check` asks for, or the build argument. Raise InvalidInput for what is no such thing."""
    place = Place(file, 1)
    words = args.get(_ARGUMENT) or directives(lines_of(text), file).get("check", "")
    policy = Policy()
    for word in filter(None, (word.strip() for word in words.split(";"))):
        name, _, value = (part.strip() for part in word.partition("="))
        if name == "skip":
            names = frozenset(rule.strip().lower() for rule in value.split(","))
            policy = replace(policy, skip=names, skips_all="all" in names)
        elif name == "error" and value.lower() in ("true", "false", "1", "0"):
            policy = replace(policy, is_error=value.lower() in ("true", "1"))
        elif name != "experimental":
            raise InvalidInput(
                f"cannot read {word!r} in check={words}", hint="write skip=RULE,RULE or error=true", place=str(place)
            )
    return policy


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


def _duplicate_names(dockerfile: Dockerfile) -> Iterator[Finding]:
    seen: set[str] = set()
    for stage in dockerfile.stages:
        if stage.from_.name in seen:
            yield Finding(stage.from_.place, "DuplicateStageName", f"another stage is called {stage.from_.name} too")
        if stage.from_.name:
            seen.add(stage.from_.name)


def _platforms(dockerfile: Dockerfile) -> Iterator[Finding]:
    for stage in dockerfile.stages:
        platform, place = stage.from_.platform or "", stage.from_.place
        if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield Finding(place, "RedundantTargetPlatform", "this is the platform anyway")
        elif platform and "$" not in platform and not any(part in stage.name for part in platform.lower().split("/")):
            yield Finding(
                place, "FromPlatformFlagConstDisallowed", f"--platform={platform} is the same for all platforms"
            )


def _unknown_args(dockerfile: Dockerfile) -> Iterator[Finding]:
    """A FROM whose only variable is declared nowhere."""
    declared = {name for arg in dockerfile.global_args for name, _ in arg.pairs}
    for stage in dockerfile.stages:
        for name in _variables(stage):
            if name not in declared and not name.startswith(("BUILD", "TARGET")):
                yield Finding(stage.from_.place, "UndefinedArgInFrom", f"no ARG above the first FROM declares {name}")


def _useless_defaults(dockerfile: Dockerfile) -> Iterator[Finding]:
    """A FROM that means no image unless its arguments are given."""
    defaults = {name: value for arg in dockerfile.global_args for name, value in arg.pairs}
    for stage in dockerfile.stages:
        names = _variables(stage)
        if not names or not defaults.keys() >= set(names):
            continue
        try:
            image = expand(stage.from_.image, defaults.get, stage.from_.escape)
            Reference.parse(image)
        except UmiakError:
            message = f"without --build-arg {names[0]}=… {stage.from_.image} is no image"
            yield Finding(stage.from_.place, "InvalidDefaultArgInFrom", message)


def _variables(stage: Stage) -> list[str]:
    return re.findall(r"\$\{?([A-Za-z_]\w*)", stage.from_.image)


def _expose(dockerfile: Dockerfile) -> Iterator[Finding]:
    for item in _all(dockerfile):
        for port in item.ports if isinstance(item, ins.Expose) else ():
            _, _, protocol = port.partition("/")
            if protocol and "$" not in protocol and protocol != protocol.lower():
                yield Finding(item.place, "ExposeProtoCasing", f"write {port.lower()}")


def _casing(statements: Sequence[Statement]) -> Iterator[Finding]:
    """Keywords that are not written as most are: all in capitals, or all in small letters."""
    lower = sum(item.written.islower() for item in statements)
    wanted = str.lower if lower > len(statements) / 2 else str.upper
    for item in statements:
        if item.written != wanted(item.written):
            message = f"write {wanted(item.written)}, as elsewhere in the file"
            yield Finding(item.place, "ConsistentInstructionCasing", message)


def _as_casing(statements: Sequence[Statement]) -> Iterator[Finding]:
    for item in statements:
        words = item.rest.split()
        if item.keyword == "FROM" and len(words) == 3 and item.written.isupper() != words[1].isupper():
            wanted = "AS" if item.written.isupper() else "as"
            yield Finding(item.place, "FromAsCasing", f"write {wanted}, like {item.written}")


def _gaps(statements: Sequence[Statement]) -> Iterator[Finding]:
    for item in statements:
        if item.gap:
            yield Finding(
                replace(item.place, line=item.gap, column=1), "NoEmptyContinuation", "an empty line in a continued one"
            )


_RULES: tuple[Callable[[Dockerfile], Iterator[Finding]], ...] = (
    _maintainer,
    _shell_form,
    _relative_workdir,
    _repeated,
    _secret_names,
    _legacy_pairs,
    _stage_names,
    _duplicate_names,
    _platforms,
    _unknown_args,
    _useless_defaults,
    _expose,
)
_TEXT_RULES: tuple[Callable[[Sequence[Statement]], Iterator[Finding]], ...] = (_casing, _as_casing, _gaps)
