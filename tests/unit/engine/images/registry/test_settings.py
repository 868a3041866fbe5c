from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.images.registry.endpoints import endpoint, endpoints
from engine.images.registry.proxies import is_loopback, proxy_for
from engine.images.registry.settings import HostSettings, Settings, load_settings


def load(directory: Path, text: str) -> Settings:
    (directory / "umiak").mkdir(exist_ok=True)
    (directory / "umiak" / "config.toml").write_text(text)
    return load_settings({"XDG_CONFIG_HOME": str(directory)})


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    settings = load_settings({"XDG_CONFIG_HOME": str(tmp_path)})
    assert settings.timeout_s == 30.0
    assert settings.host("docker.io") == HostSettings()


def test_a_file_names_mirrors_and_plain_http(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[registry]\ntimeout = 5\nparallel = 2\n"
        '[registries."docker.io"]\nmirrors = ["https://m.example/hub"]\n'
        '[registries."lan:5000"]\nplain-http = true\n[something.else]\nx = 1\n',
    )
    assert (settings.timeout_s, settings.parallel) == (5, 2)
    assert settings.host("docker.io").mirrors == ("https://m.example/hub",)
    assert settings.host("lan:5000").plain_http


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[registry", "cannot read"),
        ("registry = 1", "registry is not a table"),
        ("[registry]\ntimeout = 0", "registry.timeout"),
        ("[registry]\ntimeout = true", "registry.timeout"),
        ("[registry]\nparalel = 3", "unknown setting registry.paralel"),
        ('[registries."a"]\nmirror = ["x"]', "unknown setting 'mirror'"),
        ('[registries."a"]\nmirrors = "x"', "not a list"),
        ('[registries."a"]\nplain-http = 1', "neither true nor false"),
        ('[registries."a"]\nca = 1', "ca is not a path"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        load(tmp_path, text)
    assert "config.toml" in caught.value.message


def test_where_registries_are() -> None:
    settings = Settings(
        hosts={"docker.io": HostSettings(mirrors=("http://m:1/p", "n")), "lan": HostSettings(plain_http=True)}
    )
    assert [(e.host, e.prefix, e.schemes, e.is_mirror) for e in endpoints("docker.io", settings)] == [
        ("m:1", "p/", ("http",), True),
        ("n", "", ("https",), True),
        ("registry-1.docker.io", "", ("https",), False),
    ]
    assert endpoint("ghcr.io", settings).schemes == ("https",)
    assert endpoint("lan", settings).schemes == ("http",)
    assert endpoint("localhost:5000", settings).schemes == ("https", "http")
    assert endpoint("127.0.0.9:5000", settings).schemes == ("https", "http")
    with pytest.raises(InvalidInput, match="mirror"):
        endpoints("x", Settings(hosts={"x": HostSettings(mirrors=("ftp://y",))}))


ENVIRONMENT = {
    "HTTP_PROXY": "http://plain:1",
    "https_proxy": "secure:2",
    "no_proxy": "localhost,.inner.example,exact.example,10.0.0.0/8,port.example:5000,[fd00::1]:6000",
}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://a.example/", "http://plain:1"),
        ("https://a.example/", "http://secure:2"),
        ("https://127.0.0.1:5000/", None),
        ("http://localhost/", None),
        ("https://x.inner.example/", None),
        ("https://inner.example/", "http://secure:2"),
        ("https://exact.example/", None),
        ("https://sub.exact.example/", None),
        ("https://inexact.example/", "http://secure:2"),
        ("https://10.1.2.3/", None),
        ("https://11.1.2.3/", "http://secure:2"),
        ("https://port.example:5000/", None),
        ("https://port.example/", "http://secure:2"),
        ("https://[fd00::1]:6000/", None),
        ("https://[fd00::1]:6001/", "http://secure:2"),
    ],
)
def test_the_proxy_for_a_host(url: str, proxy: str | None) -> None:
    assert proxy_for(url, ENVIRONMENT) == proxy


def test_what_a_proxy_cannot_be() -> None:
    assert proxy_for("https://a/", {"https_proxy": "http://p", "no_proxy": "*"}) is None
    with pytest.raises(Exception, match="socks5"):
        proxy_for("https://a/", {"HTTPS_PROXY": "socks5://p:1"})


def test_what_this_host_is() -> None:
    assert [
        is_loopback(host) for host in ("localhost", "127.1.2.3", "::1", "[::1]", "10.0.0.1", "localhost.example")
    ] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
