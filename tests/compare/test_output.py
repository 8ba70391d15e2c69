"""Files are replaced where they are the comparison's own, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baldro_ext.tools.compare.errors import ForeignFileError
from baldro_ext.tools.compare.output import MANIFEST, write


def test_own_files_are_replaced_and_those_no_longer_made_removed(tmp_path: Path) -> None:
    write(tmp_path / "out", {"a.md": b"1", "b.png": b"2"}, {"x": 1})
    write(tmp_path / "out", {"a.md": b"3"}, {"x": 2})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.md", MANIFEST]
    assert (tmp_path / "out/a.md").read_bytes() == b"3"
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["x"] == 2


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, {"a.md": b"1"}, {})
    write(tmp_path, {}, {})
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "a.md").exists()


@pytest.mark.parametrize("name", ["a.md", MANIFEST])
def test_somebody_elses_file_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ForeignFileError, match=f"{name} .*choose another folder with --out"):
        write(tmp_path, {"a.md": b"1", "b.md": b"2"}, {})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_an_own_file_that_was_edited_is_somebodys(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": b"1", "b.md": b"1"}, {})
    (tmp_path / "a.md").write_text("edited")
    (tmp_path / "b.md").write_text("edited")
    with pytest.raises(ForeignFileError, match=r"a.md would be replaced"):
        write(tmp_path, {"a.md": b"2"}, {})
    (tmp_path / "a.md").unlink()
    write(tmp_path, {"a.md": b"2"}, {})
    assert (tmp_path / "b.md").read_text() == "edited"
