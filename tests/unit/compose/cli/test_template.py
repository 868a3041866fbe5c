from __future__ import annotations

import json

import pytest

from compose.cli.view.template import Template, inspected, listing
from compose.cli.view.units import human_size
from engine.errors import InvalidInput

RECORD = {"ID": "abc", "Name": "web", "Tags": ["a", "b"], "Config": {"Env": None, "Labels": {"k": "v"}}, "Up": True}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{.ID}}:{{.Name}}", "abc:web"),
        ("{{ .Config.Labels }}", "map[k:v]"),
        ("{{.Tags}} {{.Up}} {{.Config.Env}}", "[a b] true <no value>"),
        ("{{json .Tags}}", '["a","b"]'),
        ("{{len .Tags}}", "2"),
        ('{{index .Config.Labels "k"}}', "v"),
        ("{{index .Tags 1}}", "b"),
        ('{{join .Tags ", "}}', "a, b"),
        ("{{.Name | upper}}", "WEB"),
        ("{{index .Tags 0 | upper}}", "A"),
        ("a\\tb", "a\tb"),
    ],
)
def test_templates_render_as_gos_do(template: str, wanted: str) -> None:
    assert Template(template).render(RECORD) == wanted


@pytest.mark.parametrize(
    "template", ["{{.Missing}}", "{{range .Tags}}", "{{.ID", "{{}}", "{{ID}}", "{{index .Tags 9}}"]
)
def test_what_is_not_known_is_one_clear_error(template: str) -> None:
    with pytest.raises(InvalidInput):
        Template(template).render(RECORD)


def test_a_listing_is_a_table_lines_of_json_or_a_template_for_each() -> None:
    shown = {"THE ID": "ID", "NAME": "Name"}
    assert listing([RECORD], shown, "table") == ["THE ID    NAME", "abc       web"]
    assert listing([RECORD], shown, "table {{.Name}}\\t{{.ID}}") == ["NAME      THE ID", "web       abc"]
    assert listing([RECORD], shown, "{{.ID}}") == ["abc"]
    assert json.loads(listing([RECORD], shown, "json")[0]) == RECORD


def test_inspection_is_an_array_or_a_template_for_each() -> None:
    assert json.loads(inspected([RECORD], None)) == [RECORD]
    assert inspected([RECORD, RECORD], "{{.Name}}") == "web\nweb"


def test_sizes_have_three_digits() -> None:
    assert [human_size(n) for n in (0, 999, 1500, 29_100_000)] == ["0B", "999B", "1.5kB", "29.1MB"]
