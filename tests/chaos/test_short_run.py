"""The proof, short: 5,000 requests by every way, every kind of fault, and the promise holds."""

from pathlib import Path

import pytest

from chaos.run import Options, run

SEED = 20_261_122


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_promise_holds_through_every_kind_of_fault(tmp_path: Path) -> None:
    result = run(Options(requests=5000, seed=SEED, files=tmp_path))
    print("\n".join(result.missed))
    print(result.table)
    assert result.verdict.holds
    assert len(result.faults) >= 25
    assert result.is_a_proof
    assert result.recovered.p99 < 60
