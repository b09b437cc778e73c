"""How one of several processes reports its error, and how the process that started it reads the report."""

from __future__ import annotations

import pytest

from bmask.errors import DataError
from bmask.tracking.store import TrackingError
from bmask.training.launch import _reported, _run_and_report


@pytest.mark.parametrize(("kind", "code"), [(DataError, 3), (TrackingError, 5)])
def test_an_error_keeps_its_sentence_and_its_code_from_process_to_process(kind, code, tmp_path, monkeypatch):
    def stage() -> None:
        raise kind("no such store; start it")

    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        _run_and_report(str(tmp_path), stage)
    assert ended.value.code == code
    said = _reported(tmp_path, 1)
    assert said is not None
    assert (str(said), said.exit_code) == ("no such store; start it", code)
    assert _reported(tmp_path, 0) is None
