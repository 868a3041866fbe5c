from __future__ import annotations

import pytest

from engine.errors import InvalidInput, NotFound
from engine.images.apt.closure import Universe, closure


def universe(*packages: dict[str, str], uri: str = "http://archive") -> Universe:
    made = Universe()
    add(made, uri, *packages)
    return made


def add(made: Universe, uri: str, *packages: dict[str, str]) -> None:
    blocks = []
    for package in packages:
        values = {
            "Version": "1",
            "Architecture": "all",
            "Priority": "optional",
            "Filename": f"pool/{package['Package']}.deb",
            "Size": "1",
            "SHA256": "0" * 64,
        }
        merged = {"Package": package["Package"], **values, **package}
        blocks.append("\n".join(f"{key}: {value}" for key, value in merged.items()))
    made.add_index(uri, ("\n\n".join(blocks) + "\n").encode())


def pkg(name: str, depends: str = "", **fields: str) -> dict[str, str]:
    result = {"Package": name, **{key.replace("_", "-"): value for key, value in fields.items()}}
    return {**result, "Depends": depends} if depends else result


def names(made: Universe, *requested: str) -> list[str]:
    return [package.name for package in closure(made, requested)]


def test_required_and_essential_packages_are_always_in() -> None:
    made = universe(pkg("a", Priority="required"), pkg("b", Essential="yes"), pkg("c"), pkg("d", Priority="important"))
    assert names(made) == ["a", "b"]


def test_dependencies_come_before_what_needs_them() -> None:
    made = universe(
        pkg("app", "lib (>= 1), data"), pkg("lib", "base", Pre_Depends="early"), pkg("base"), pkg("early"), pkg("data")
    )
    assert names(made, "app") == ["early", "base", "lib", "data", "app"]


def test_a_cycle_is_no_trouble() -> None:
    assert sorted(names(universe(pkg("a", "b"), pkg("b", "a")), "a")) == ["a", "b"]


def test_the_first_alternative_that_exists_is_taken_unless_one_is_chosen_already() -> None:
    made = universe(pkg("app", "gone | one | two"), pkg("one"), pkg("two"))
    assert names(made, "app") == ["one", "app"]
    assert names(made, "two", "app") == ["two", "app"]


def test_a_virtual_package_is_satisfied_by_the_most_ordinary_provider() -> None:
    made = universe(pkg("app", "awk"), pkg("zawk", Provides="awk", Priority="required"), pkg("gawk", Provides="awk"))
    assert names(made, "app") == ["zawk", "app"]
    assert names(made, "gawk", "app") == ["zawk", "gawk", "app"]


def test_a_versioned_dependency_needs_a_versioned_provides() -> None:
    made = universe(pkg("app", "thing (>= 2)"), pkg("a", Provides="thing"), pkg("b", Provides="thing (= 3)"))
    assert names(made, "app") == ["b", "app"]


def test_the_newest_version_of_all_sources_is_taken() -> None:
    made = universe(pkg("a", Version="1.0"))
    add(made, "http://security", pkg("a", Version="1.0+deb12u1"))
    add(made, "http://updates", pkg("a", Version="1.0~bpo"))
    [package] = closure(made, ["a"])
    assert (package.version, package.uri) == ("1.0+deb12u1", "http://security")


def test_architecture_qualifiers_are_left_aside() -> None:
    assert names(universe(pkg("a", "b:any, c:native (>= 1)"), pkg("b"), pkg("c")), "a") == ["b", "c", "a"]


def test_an_unknown_package_gets_a_suggestion() -> None:
    with pytest.raises(NotFound, match="no package 'redis-sever'") as caught:
        names(universe(pkg("redis-server")), "redis-sever")
    assert caught.value.hint == "did you mean 'redis-server'?"


def test_a_virtual_package_asked_for_names_its_providers() -> None:
    with pytest.raises(InvalidInput, match="virtual") as caught:
        names(universe(pkg("a", Provides="v"), pkg("b", Provides="v")), "v")
    assert "a, b" in str(caught.value.hint)


def test_a_dependency_that_nothing_satisfies_is_told() -> None:
    with pytest.raises(NotFound, match=r"package a depends on b \(>= 2\) \| c, which the archive does not have"):
        names(universe(pkg("a", "b (>= 2) | c"), pkg("b")), "a")


def test_a_file_name_that_leads_out_of_the_archive_is_refused() -> None:
    with pytest.raises(InvalidInput, match="broken entry for a"):
        names(universe(pkg("a", Filename="pool/../../x")), "a")


def test_a_long_chain_needs_no_recursion() -> None:
    made = universe(*(pkg(f"p{n}", f"p{n + 1}") for n in range(3000)), pkg("p3000"))
    assert names(made, "p0")[0] == "p3000"
