"""A short chaos run: 5,000 requests through every channel, every kind of fault."""

from pathlib import Path

import pytest

from chaos.run import Options, run

SEED = 20_261_122


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_every_guarantee_holds_through_every_kind_of_fault(tmp_path: Path) -> None:
    result = run(Options(requests=5000, seed=SEED, files=tmp_path))
    print("\n".join(result.missed))
    print(result.table)
    assert result.verdict.holds
    assert len(result.faults) >= 25
    assert not result.shortcomings
    assert result.recovered.p99 < 60
