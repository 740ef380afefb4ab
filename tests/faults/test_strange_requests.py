"""Mutated requests to a MONAI Label server: nothing but a refusal in one line comes of them."""

import asyncio
import json
import random

import pytest
from fuzzing import fuzz, mutated_bytes, mutated_document

from ultrarefiner_monai.deploy.monailabel.request import BATCH, TRAIN, checked, device_key, sent
from ultrarefiner_monai.errors import DataError

pytestmark = pytest.mark.fault(29)

FORM = {"threshold": 0.4, "device": "cpu", "client_id": "user-xyz", "result_extension": ".nrrd", "save_label": True}
PARTS = (b"127.0.0.1", b"Bearer ", b"Basic ", b"http://", b"[::1]", b":", b"=", b"null", b"\xff\x00\n", b"9" * 5000)
HEADERS = ("host", "origin", "authorization", "content-type", "content-length", "sec-fetch-site")


def test_forms(fuzz_cases):
    def mutate(generator: random.Random) -> str:
        if generator.random() < 0.5:
            return json.dumps(mutated_document(FORM, generator))
        return mutated_bytes(json.dumps(FORM).encode(), generator).decode("latin-1")

    outcome = fuzz(lambda text: checked(sent(text), [*BATCH, *TRAIN, device_key(())]), mutate, fuzz_cases, (DataError,))
    print(f"forms of requests: {outcome}")
    assert not outcome.faults


def test_headers(fuzz_cases):
    pytest.importorskip("starlette.middleware.body_limit", reason="this release of Starlette limits no bodies")
    from ultrarefiner_monai.deploy.monailabel.gate import Gate

    async def behind(scope, receive, send):
        raise AssertionError("a stranger was let in")

    gates = Gate(behind, None), Gate(behind, "0123456789abcdef")

    def mutate(generator: random.Random) -> list[tuple[bytes, bytes]]:
        return [(name.encode(), b"".join(generator.choices(PARTS, k=generator.randrange(4)))) for name in HEADERS]

    def ask(headers: list[tuple[bytes, bytes]]) -> None:
        for gate in gates:
            assert status(gate, headers) in (400, 401, 403, 413)

    outcome = fuzz(ask, mutate, fuzz_cases, (DataError,))
    print(f"headers of requests: {outcome}")
    assert not outcome.faults


def status(gate, headers: list[tuple[bytes, bytes]]) -> int:
    """The status of the answer to a request from another machine."""
    scope = {"type": "http", "method": "GET", "path": "/info/", "query_string": b"", "server": ("192.168.1.5", 8000)}
    answers = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        answers.append(message)

    asyncio.run(gate({**scope, "headers": headers}, receive, send))
    return answers[0]["status"]
