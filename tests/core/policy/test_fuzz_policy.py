"""Whatever the bytes: nothing is raised, and every problem lies inside its file."""

import pathlib

import pytest
from drafts import policy_sets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockade.core import policy

SLOW = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
EXAMPLES = sorted((pathlib.Path(__file__).parents[3] / "examples").rglob("*.yaml"))
SEEDS = [path.read_bytes() for path in EXAMPLES]
TOKENS = [
    b"\n", b"\t", b"---\n", b"{", b"}", b"[", b"]", b"(", b")", b",", b": ", b"- ", b"#", b"'", b'"', b"&a ", b"*a",
    b"!!int ", b"|\n", b">\n", b"?", b"\\", b"\x00", b"\xff", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xc2\x85", b"\r",
    b"<<: ", b"any(", b"networks(", b"not ", b" in ", b"any", b"tcp/", b"icmp/", b"0", b"999999999999", b"null",
    b"true", b"~", b"%YAML 1.2\n", b"...\n", b"a" * 300,
    b"allow", b"spec:", b"kind: Service", b"\xef\xbb\xbf",
]  # fmt: skip


def check(*contents: bytes) -> None:
    sources = [policy.SourceText(f"{number}.yaml", content) for number, content in enumerate(contents)]
    draft = policy.read(sources)
    for problem in draft.problems:
        content = contents[int(problem.where.file.removesuffix(".yaml"))]
        text = content.decode("utf-8-sig", errors="replace")
        lines = text.replace("\r\n", "\n").translate(dict.fromkeys(map(ord, "\r\x85\u2028\u2029"), "\n")).split("\n")
        assert 1 <= problem.where.line <= len(lines)
        line = lines[problem.where.line - 1]
        assert 1 <= problem.where.column <= len(line) + 1
        assert problem.length >= 1
        assert problem.where.column + problem.length <= len(line) + 2
        assert len(problem.excerpt) in (len(line), 0)
        assert problem.message
        assert (problem.message + problem.expected + problem.nearest + problem.excerpt).isprintable()
        assert policy.shown(problem).startswith(f"{problem.where.file}:{problem.where.line}:")
    policy.content_hash(draft.policy)
    if draft.problems:
        return
    kept, _ = policy.enforceable(policy.complete(draft.policy))
    assert policy.read([policy.SourceText("again", policy.to_documents(kept).encode())]).problems == ()


@SLOW
@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_bytes(contents: list[bytes]) -> None:
    check(*contents)


@SLOW
@given(st.lists(st.sampled_from(TOKENS) | st.sampled_from([b"apiVersion: stockade.dev/v1\n", b"  "]), max_size=25))
def test_any_yaml_like_text(parts: list[bytes]) -> None:
    check(b"".join(parts))


edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 40), st.sampled_from(TOKENS) | st.just(b"")),
    min_size=1,
    max_size=4,
)


@SLOW
@given(st.sampled_from(SEEDS), edits)
def test_any_change_to_a_valid_document(content: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    for place, removed, put in changes:
        at = int(place * len(content))
        content = content[:at] + put + content[at + removed :]
    check(content)


@settings(SLOW, max_examples=20)
@given(policy_sets(), edits)
def test_any_change_to_any_policy(found: object, changes: list[tuple[float, int, bytes]]) -> None:
    content = policy.to_documents(found).encode()  # type: ignore[arg-type]
    for place, removed, put in changes:
        at = int(place * len(content))
        content = content[:at] + put + content[at + removed :]
    check(content)


@pytest.mark.parametrize("token", TOKENS)
def test_each_token_alone_and_at_every_line_of_the_example(token: bytes) -> None:
    check(token)
    lines = max(SEEDS, key=len).split(b"\n")
    for number in range(0, len(lines), 7):
        check(b"\n".join([*lines[:number], token + lines[number], *lines[number + 1 :]]))
