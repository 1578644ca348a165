from __future__ import annotations

import errno
import os

import pytest
from engine.errors import ExportError, ParameterError
from engine.export import cursors
from engine.export.cursors import advance_cursor, drop_cursor, list_cursors, read_cursor

from tests.export.sample import HOSTILE, export

NAMES = [name for name in HOSTILE if name]


def test_advance_cursor_without_a_name_is_refused(exported):
    with pytest.raises(ParameterError, match="name: received ''"):
        advance_cursor(exported, "", 1)


@pytest.mark.parametrize("name", NAMES)
def test_advance_cursor_of_hostile_name_reads_back(exported, name):
    assert read_cursor(exported, name) == 0
    advance_cursor(exported, name, 1)
    assert read_cursor(exported, name) == 1
    assert list_cursors(exported).rows() == [(name, 1)]
    assert read_cursor(exported, name + "x") == 0


def test_advance_cursors_of_many_names_are_apart(exported):
    export(exported, 2)
    for at, name in enumerate(NAMES):
        advance_cursor(exported, name, 1 + at % 2)
    assert list_cursors(exported).rows() == sorted((n, 1 + at % 2) for at, n in enumerate(NAMES))
    assert {path.suffix for path in (exported / cursors.CURSORS).iterdir()} == {".json"}


def test_advance_cursor_backwards_is_refused_until_dropped(exported):
    export(exported, 2)
    advance_cursor(exported, "c", 2)
    advance_cursor(exported, "c", 2)
    with pytest.raises(ParameterError, match="received 1, but 'c' is at 2"):
        advance_cursor(exported, "c", 1)
    assert drop_cursor(exported, "c")
    assert not drop_cursor(exported, "c")
    advance_cursor(exported, "c", 1)
    assert read_cursor(exported, "c") == 1


@pytest.mark.parametrize("revision", [0, 7])
def test_advance_cursor_to_unknown_revision_is_refused(exported, revision):
    with pytest.raises(ExportError, match=f"no revision {revision}"):
        advance_cursor(exported, "c", revision)


def test_advance_cursor_in_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(ExportError, match="is no export"):
        advance_cursor(tmp_path, "c", 1)
    assert list(tmp_path.iterdir()) == []


def test_advance_cursor_that_fails_keeps_former_and_leaves_nothing(exported, monkeypatch):
    export(exported, 2)
    advance_cursor(exported, "c", 1)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("engine.publish.os.fsync", full)
    with pytest.raises(ExportError, match="No space left"):
        advance_cursor(exported, "c", 2)
    monkeypatch.undo()
    assert read_cursor(exported, "c") == 1
    assert len(list((exported / cursors.CURSORS).iterdir())) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name":"c"}', '{"name":"c","revision":"1"}', "\xff"])
def test_read_damaged_cursor_names_the_file(exported, content):
    advance_cursor(exported, "c", 1)
    (file,) = (exported / cursors.CURSORS).iterdir()
    file.write_text(content, encoding="latin-1")
    with pytest.raises(ExportError, match=file.name):
        read_cursor(exported, "c")


def test_read_cursor_of_name_that_is_no_text_is_refused(exported):
    with pytest.raises(ParameterError, match="UTF-8"):
        read_cursor(exported, "\ud800")
