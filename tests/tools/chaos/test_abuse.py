"""A short form of `make abuse`: whoever wants to cost much gets little, and nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.chaos.abuse import ATTACKS, limited_service, suffer
from tools.chaos.world import Service

pytestmark = pytest.mark.slow

SOME = {"half handshakes": 300, "frames, 1,000 a second": 3000, "sockets of one address": 300}
SOME |= {"bodies of 60 MB": 50, "endless bodies": 50}
SOME |= {"handshakes that cannot be": 300}  # the others are silent for half minutes, or only busy
ENDS = {
    "half handshakes": {"cut": 2 * 300},
    "handshakes that cannot be": {"431": 2 * 150, "400": 2 * 150},
    "sockets of one address": {"open": 2 * 100, "1013": 2 * 200},
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with limited_service(tmp_path_factory.mktemp("abuse")) as service:
        yield service


@pytest.mark.uvicorn("has none of these limits")
@pytest.mark.parametrize("name", SOME)
async def test_abuse_gets_little_and_costs_little(name: str, limited: Service) -> None:
    attack, _ = ATTACKS[name]

    figures = await suffer(name, attack, SOME[name], limited.server, limited.signing_key)

    if name in ENDS:
        assert figures.told == ENDS[name]
    elif "bodies" in name:
        assert figures.told.total() == figures.told["413"] + figures.told["cut"] == 2 * 50
    else:
        assert figures.told["4429"] >= 2
    assert max(figures.memory_most) - figures.memory_before < 24  # MiB
    assert figures.memory_most[1] - figures.memory_most[0] < 8
