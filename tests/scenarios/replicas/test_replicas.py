"""A service's name leads to all its replicas, in rotation."""

from __future__ import annotations

from tests.stack import Stack


def addresses_of(stack: Stack, name: str) -> list[str]:
    """The addresses that the container's name server gives, in its order."""
    answer = stack.sh("client", f"nslookup -type=a {name} 127.0.0.11")
    _, _, records = answer.partition("\n\n")
    return [line.split()[-1] for line in records.splitlines() if line.startswith("Address")]


def test_a_name_gives_all_replicas_in_rotation(stack: Stack) -> None:
    stack.up()
    own = {stack.address("web", index) for index in (1, 2, 3)}
    assert len(own) == 3
    answers = [addresses_of(stack, "web") for _ in range(12)]
    assert all(set(answer) == own for answer in answers)
    assert len({answer[0] for answer in answers}) > 1, "the first address changes from answer to answer"


def test_containers_answer_by_every_name_they_have(stack: Stack) -> None:
    stack.up()
    assert addresses_of(stack, "replicas-web-2") == [stack.address("web", 2)]
    assert set(addresses_of(stack, "site")) == set(addresses_of(stack, "web"))
    assert addresses_of(stack, "the-client") == addresses_of(stack, "client") == [stack.address("client")]


def test_a_stopped_replica_leaves_the_rotation(stack: Stack) -> None:
    stack.up()
    stack.host.kill(stack.status("web", 2)["pid"])
    gone = stack.replicas("web")[1]
    stack.wait_until(lambda: stack.states()[gone["Name"]] == "exited", "the replica to end")
    assert len(addresses_of(stack, "web")) == 2


def test_requests_reach_replicas_by_name(stack: Stack) -> None:
    stack.up()
    names = {stack.sh("client", "wget -q -O - http://web/") for _ in range(12)}
    assert names <= {entry["ID"] for entry in stack.replicas("web")}
    assert names
