"""bfloat16 where it is asked for, and by `auto` where the device multiplies it itself."""

import pytest
import torch

from aeflow.methods.aeflow import uses_bfloat16

CPU, MPS = torch.device("cpu"), torch.device("mps")


@pytest.mark.parametrize("supported", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_auto_asks_the_cpu(supported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert not uses_bfloat16("auto", CPU)
    monkeypatch.setattr(torch.cpu, supported, lambda: True)
    assert uses_bfloat16("auto", CPU)
    assert not uses_bfloat16("auto", MPS)


def test_what_is_asked_for_is_done() -> None:
    assert uses_bfloat16("bfloat16", MPS)
    assert not uses_bfloat16("float32", CPU)


def test_this_torch_can_tell() -> None:
    """They have no public name, so another torch may have other ones."""
    assert uses_bfloat16("auto", CPU) in (True, False)
