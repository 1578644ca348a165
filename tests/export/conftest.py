from __future__ import annotations

import shutil

import pytest

from tests.export.sample import export


@pytest.fixture(scope="session")
def first_export(tmp_path_factory):
    target = tmp_path_factory.mktemp("export") / "out"
    export(target, 1)
    return target


@pytest.fixture
def exported(first_export, tmp_path):
    """An export of generation 1 of its own for each test."""
    return shutil.copytree(first_export, tmp_path / "out")
