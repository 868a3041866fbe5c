"""`umiak config`: the project as umiak understands it, in the words and the order of `docker compose config`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from compose.cli.context import Context
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from compose.errors import ComposeError
    from compose.model.project import Project
    from compose.spec.discover import LoadOptions
    from compose.spec.document import Map

COMMAND = Command(
    "config",
    "Show the project as it is understood",
    words="[SERVICE...]",
    options=[
        Option("--format", metavar="FORMAT", choices=("yaml", "json"), default="yaml", help="yaml or json"),
        Option("-q", "--quiet", help="Only check it"),
        Option("--services", help="Print the services, each after those it needs"),
        Option("--images", help="Print the images"),
        Option("--volumes", help="Print the volumes"),
        Option("--networks", help="Print the networks"),
        Option("--profiles", help="Print the profiles"),
        Option("--models", help="Print the language models"),
        Option("--variables", help="Print the variables that the files use, with their defaults"),
        Option("--schema", help="Print the JSON Schema of the canonical project"),
        Option("--environment", help="Print the variables that interpolation sees"),
        Option("--hash", metavar="SERVICES", help="Print the hash of services' definitions: a,b or '*'"),
        Option("-o", "--output", metavar="FILE", help="Write to a file"),
        Option("--resolve-image-digests", help="Pin images to the digests that their registries have"),
        Option("--lock-image-digests", help="Print an override file that pins the images"),
        Option("--relative", help="Print paths relative to the project directory"),
        Option("--redact", help="Hide what may be secret: by its name, from an env file or such a variable"),
        Option("--no-interpolate", help="Leave variables as they are"),
        Option("--no-normalize", help="Do not fill in defaults"),
        Option("--no-path-resolution", help="Leave paths as they are"),
        Option("--no-consistency", help="Do not check that references are defined"),
        Option("--no-env-resolution", help="Do not read env files"),
    ],
)


_LISTS = ("services", "images", "volumes", "networks", "models", "profiles")
"""Flags that ask for a list, which no env file changes; only that of images is of the services named."""


def run(context: Context, args: Args) -> int:
    """Print what was asked for; with --format json, errors are JSON on standard output, warnings JSON lines on standard error."""
    from compose.errors import ComposeError

    try:
        text = _text(context, args)
    except ComposeError as error:
        if args.text("format") != "json" or args.flag("quiet"):
            raise
        print(_as_json(error))
        return 1
    if args.flag("quiet"):
        return 0
    if path := args.text("output"):
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise InvalidInput(f"cannot write {path}: {error.strerror}") from error
    else:
        sys.stdout.write(text)
    return 0


def _as_json(error: ComposeError) -> str:
    import json

    from compose.errors import errors_of

    told = {
        "errors": [one.as_dict() for one in errors_of(error)],
        "omitted": getattr(error, "omitted", 0),
        "warnings": [one.as_dict() for one in error.warnings],
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def _text(context: Context, args: Args) -> str:
    from compose.spec.render import render

    if args.flag("schema"):
        from compose.schema import schema

        return schema()
    flags = {
        "interpolate": not args.flag("no-interpolate"),
        "normalize": not (args.flag("no-normalize") or context.options.flag("compatibility")),
        "resolve_paths": not args.flag("no-path-resolution"),
        "check_consistency": not args.flag("no-consistency"),
        "resolve_environment": not args.flag("no-env-resolution"),
    }
    if args.flag("variables"):
        return _variables(context, args)
    words = tuple(args.words)
    if any(map(args.flag, _LISTS)):
        flags["resolve_environment"] = False
        words = words if args.flag("images") else ()
    options = context.load_options(services=words, **flags)
    if args.flag("no-interpolate"):
        lines = _listed_of_template(options, args)
        return _template(options, args) if lines is None else _lines(lines)
    project = _load_warning_in_json(options) if args.text("format") == "json" else context.load(options)
    lines = _listed(project, args)
    if lines is not None:
        return _lines(lines)
    relative_to = project.working_dir if args.flag("relative") else None
    if args.flag("resolve-image-digests") or args.flag("lock-image-digests"):
        project = _pinned(project)
    format = args.text("format") or "yaml"
    if args.flag("lock-image-digests"):
        return _lock({name: service.image for name, service in project.services.items()}, format)
    return render(
        project,
        format,
        edit=_redaction(options) if args.flag("redact") else None,
        relative_to=relative_to,
        with_env_files=args.flag("no-env-resolution"),
    )


def _redaction(options: LoadOptions) -> Callable[[Any], Any]:
    from compose.redaction import redaction

    return redaction(options)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _tree(options: LoadOptions) -> Map:
    from compose.spec.load import load_tree

    return load_tree(options).tree


def _template(options: LoadOptions, args: Args) -> str:
    from compose.spec.render import render_tree

    tree, format = _tree(options), args.text("format") or "yaml"
    if args.flag("resolve-image-digests") or args.flag("lock-image-digests"):
        _pin_template(tree)
    if args.flag("lock-image-digests"):
        return _lock({name: service.get("image") for name, service in tree["services"].items()}, format)
    return render_tree(tree, format)


def _listed_of_template(options: LoadOptions, args: Args) -> Iterable[str] | None:
    """The list asked for, of a project whose variables stay; None where the whole of it is."""
    if args.flag("services"):
        return sorted(_tree(options)["services"])
    if not any(map(args.flag, _LISTS)):
        return None
    from compose.spec.load import load_checked, separator
    from compose.spec.profiles import used_resources

    loaded, active = load_checked(options)
    services = {name: loaded.tree["services"][name] for name in sorted(active)}
    if args.flag("images"):
        between = separator(options, loaded.found)
        return [service.get("image") or f"{loaded.name}{between}{name}" for name, service in services.items()]
    if args.flag("profiles"):
        return sorted({profile for s in loaded.tree["services"].values() for profile in s.get("profiles") or ()})
    section = next(section for section in ("volumes", "networks", "models") if args.flag(section))
    everything = loaded.tree.get(section) or {}
    return sorted(everything if options.all_resources else used_resources(services.values())[section])


def _load_warning_in_json(options: LoadOptions) -> Project:
    import json

    from compose.spec.load import load

    project = load(options)
    for warning in project.warnings:
        print(json.dumps({"warning": True} | warning.as_dict(), ensure_ascii=False), file=sys.stderr)
    return project


def _pinned(project: Project) -> Project:
    """The project with each image's digest, as its registry has it."""
    from compose.digests import pinned

    digests = pinned(service.image for service in project.services.values() if service.image)
    services = {
        name: service.model_copy(update={"image": digests[service.image]}) if service.image else service
        for name, service in project.services.items()
    }
    return project.with_services(services)


def _pin_template(tree: Map) -> None:
    from compose.digests import pinned

    services = [service for service in tree["services"].values() if service.get("image")]
    digests = pinned(service["image"] for service in services)
    for service in services:
        service["image"] = digests[service["image"]]


def _lock(images: Mapping[str, str | None], format: str) -> str:
    """An override file that names the images alone."""
    from compose.spec.render import to_json
    from compose.spec.yamltext import Sorted, write

    is_json = format == "json"
    common = dict.fromkeys(("command", "entrypoint")) if is_json else {}
    services = Sorted({name: common | ({"image": image} if image else {}) for name, image in images.items()})
    return to_json({"name": "", "services": services}) if is_json else write({"services": services})


def _variables(context: Context, args: Args) -> str:
    """The variables of all files, included and extended ones too, as Docker's table or JSON."""
    import json

    from compose.spec.interpolate import variables

    found = variables(_tree(context.load_options(interpolate=False)))
    if args.text("format") == "json":
        data = {
            name: {
                "Name": name,
                "DefaultValue": variable.default,
                "PresenceValue": variable.alternate,
                "Required": variable.is_required,
            }
            for name, variable in sorted(found.items())
        }
        return json.dumps(data, indent=4, ensure_ascii=False) + "\n\n"
    rows = [("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE")]
    rows += [(v.name, str(v.is_required).lower(), v.default, v.alternate) for _, v in sorted(found.items())]
    widths = [max(20, *(len(row[column]) + 3 for row in rows)) for column in range(3)] + [0]
    return "".join("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\n" for row in rows)


def _listed(project: Project, args: Args) -> list[str] | None:
    """The lines of the list asked for; None where the whole project is."""
    everything = {**project.services, **project.disabled_services}
    if args.flag("services"):
        return _in_order(project)
    if args.flag("images"):
        return [service.image_name(project.name, project.separator) for service in project.services.values()]
    if args.flag("volumes"):
        return sorted(project.volumes)
    if args.flag("networks"):
        return sorted(project.networks)
    if args.flag("models"):
        return sorted(project.models)
    if args.flag("profiles"):
        return sorted({profile for service in everything.values() for profile in service.profiles})
    if args.flag("environment"):
        return [f"{key}={value}" for key, value in sorted(project.environment.items())]
    if (wanted := args.text("hash")) is not None:
        return _hashes(project, wanted)
    return None


def _in_order(project: Project) -> list[str]:
    """Each service after those it needs, in the order in which Docker's walk meets them."""
    found: dict[str, None] = {}
    entered: set[str] = set()

    def visit(name: str) -> None:
        if name in project.services and name not in entered:
            entered.add(name)
            for needed in sorted(project.services[name].depends_on):
                visit(needed)
            found[name] = None

    for name in sorted(project.services):
        visit(name)
    return list(found)


def _hashes(project: Project, wanted: str) -> list[str]:
    from compose.desired import desired
    from compose.private_files import directory
    from compose.verdicts import check_service
    from engine.paths import Paths

    found = desired(project, private_dir=directory(Paths.from_environment().root, project.name))
    names = sorted(found.services) if wanted == "*" else wanted.split(",")
    for name in names:
        check_service(found, name)
    return [f"{name} {found.services[name].config_hash}" for name in names]
