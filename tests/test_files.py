"""Never replace what baldro did not make, and never make again what is made."""

import re
from pathlib import Path

import pytest

from baldro_ext.errors import RefusedError
from baldro_ext.tools.files import MANIFEST, explained, is_made, mark_made, replace, write


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_written_and_replaced_by_who_wrote_them(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"1", "deep/b.txt": b"2"})
    write(tmp_path, {"a.txt": b"3"})
    found = contents(tmp_path)
    assert found.pop(MANIFEST)
    assert found == {"a.txt": b"3", "deep/b.txt": b"2"}
    write(tmp_path, {"deep/b.txt": b"4"})  # one that the second call did not write


@pytest.mark.parametrize("way", ["of somebody else", "edited since", "a folder", "a link"])
def test_what_is_not_ours_is_left_and_nothing_is_written(tmp_path: Path, way: str) -> None:
    if way == "edited since":
        write(tmp_path, {"b.txt": b"ours"})
        (tmp_path / "b.txt").write_bytes(b"mine")
    elif way == "a folder":
        (tmp_path / "b.txt" / "mine").mkdir(parents=True)
    elif way == "a link":
        (tmp_path / "elsewhere").write_bytes(b"mine")
        (tmp_path / "b.txt").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "b.txt").write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(RefusedError, match=r"b\.txt"):
        write(tmp_path, {"a.txt": b"new", "b.txt": b"new"})
    assert contents(tmp_path) == before


def test_the_same_content_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1")
    write(tmp_path, {"a.txt": b"1"})
    write(tmp_path, {"a.txt": b"1"})


@pytest.mark.parametrize("path", ["file/a.txt", f"{'long' * 70}/a.txt", "folder.txt"])
def test_what_cannot_be_written_is_named_with_a_remedy_and_leaves_nothing(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.txt").mkdir()
    before = contents(tmp_path)
    with pytest.raises(OSError, match=tmp_path.name) as error:
        replace(tmp_path / path, b"new")
    assert explained(error.value).startswith(f"{tmp_path}/{path.split('/')[0]}")
    assert re.search("; (use|a file|a folder)", explained(error.value))
    assert contents(tmp_path) == before


def test_what_is_made_is_known_by_its_whole_recipe(tmp_path: Path) -> None:
    file = tmp_path / "made.json"
    assert not is_made(file, {"seed": 1})
    mark_made(file, {"seed": 1, "layers": (2, 3)})
    assert is_made(file, {"layers": [2, 3], "seed": 1})
    assert not is_made(file, {"seed": 1})
    file.write_text("{")
    assert not is_made(file, {"seed": 1, "layers": (2, 3)})
