"""For each error code of Compose files an example that raises it, and one that is right: the body of `umiak explain`."""

from __future__ import annotations

EXPLANATIONS = {
    "E001": ("umiak -f compse.yaml up", "umiak -f compose.yaml up    # or run it in the directory of compose.yaml"),
    "E002": (
        "-rw------- root compose.yaml    # and you are not root",
        "chmod a+r compose.yaml    # and save it as UTF-8",
    ),
    "E003": ("services:\n\tweb: {image: nginx}    # a tab", "services:\n  web: {image: nginx}"),
    "E004": (
        "services:\n  web: {image: nginx}\n  web: {image: caddy}",
        "services:\n  web: {image: nginx}\n  proxy: {image: caddy}",
    ),
    "E005": ("services:\n  1: {image: nginx}", 'services:\n  "1": {image: nginx}'),
    "E006": (
        "a: &a [x, x]\nb: &b [*a, *a]    # and so on: each line doubles",
        "a: [x, x]    # write it out, or use a shorter chain of anchors",
    ),
    "E010": ("- web\n- db", "services:\n  web: {image: nginx}"),
    "E011": ("services:\n  web: {image: nginx, user: 1000}", 'services:\n  web: {image: nginx, user: "1000"}'),
    "E012": (
        'services:\n  web:\n    image: nginx\n    port: ["8080:80"]',
        'services:\n  web:\n    image: nginx\n    ports: ["8080:80"]',
    ),
    "E013": ("depends_on:\n  db: {condition: healthy}", "depends_on:\n  db: {condition: service_healthy}"),
    "E014": ("depends_on:\n  db: {restart: true}", "depends_on:\n  db: {condition: service_started, restart: true}"),
    "E015": ("security_opt: [no-new-privileges, no-new-privileges]", "security_opt: [no-new-privileges]"),
    "E016": ('ports: ["http:80"]', 'ports: ["8080:80"]'),
    "E020": ("command: echo ${1}", "command: echo $${1}"),
    "E021": ("image: nginx:${TAG:?set TAG}", "TAG=1.27 umiak up    # or write TAG=1.27 into .env"),
    "E030": ("env_file: [missing.env]", "env_file:\n  - {path: missing.env, required: false}"),
    "E040": (
        "services:\n  web: {image: nginx, networks: [front]}",
        "services:\n  web: {image: nginx, networks: [front]}\nnetworks:\n  front:",
    ),
    "E041": ("network_mode: host\nnetworks: [front]", "networks: [front]    # or network_mode alone"),
    "E042": (
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}",
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x}",
    ),
    "E050": (
        "# compose.yaml\nbuild: {args: {A: 1}}\n# compose.override.yaml\nbuild: [a]",
        "# compose.override.yaml\nbuild: {args: {A: 2}}",
    ),
    "E060": ("umiak -p My.App up", "umiak -p my-app up"),
    "E061": ("umiak config wbe", "umiak config web    # umiak config --services lists them"),
}
"""Code → (what raises it, what to write instead)."""
