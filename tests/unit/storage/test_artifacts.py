"""Files of trials: whole or absent in a folder, and what S3 needs."""

from __future__ import annotations

import io
import os
import sys
from types import ModuleType

import optuna.artifacts
import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from storage.artifacts import Artifacts, FolderStore
from storage.errors import StorageError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "artifacts"


@pytest.fixture
def artifacts(folder):
    return Artifacts.open(str(folder))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"image,p0\na,0.5\n")
    return path


class TestFolder:
    def test_a_file_is_stored_and_given_back(self, artifacts, folder, file, tmp_path):
        artifacts.put("id-1", file)
        assert artifacts.local_path("id-1") == folder / "id-1"
        assert artifacts.get("id-1", tmp_path / "copy") is True
        assert (tmp_path / "copy").read_bytes() == file.read_bytes()
        assert [path.name for path in folder.iterdir()] == ["id-1"]

    def test_a_file_stored_again_replaces_itself(self, artifacts, folder, file):
        artifacts.put("id-1", file)
        file.write_bytes(b"new")
        artifacts.put("id-1", file)
        assert (folder / "id-1").read_bytes() == b"new"
        assert len(list(folder.iterdir())) == 1

    def test_a_file_that_is_not_there(self, artifacts, tmp_path):
        assert artifacts.get("id-1", tmp_path / "copy") is False
        assert not (tmp_path / "copy").exists()
        artifacts.remove("id-1")

    def test_a_removed_file_is_gone(self, artifacts, folder, file):
        artifacts.put("id-1", file)
        artifacts.put("id-2", file)
        artifacts.remove("id-1")
        assert [path.name for path in folder.iterdir()] == ["id-2"]

    def test_opening_again_keeps_what_is_there(self, artifacts, folder, file):
        artifacts.put("id-1", file)
        assert Artifacts.open(str(folder)).local_path("id-1").exists()

    def test_optuna_dashboard_reads_the_same_store(self, artifacts, file):
        artifacts.put("id-1", file)
        with artifacts.store.open_reader("id-1") as body:
            assert body.read() == file.read_bytes()
        with pytest.raises(ArtifactNotFound):
            artifacts.store.open_reader("id-2")


class Failing(io.BytesIO):
    """A file whose end cannot be read."""

    def read(self, size=-1):
        if self.tell() == 0:
            return super().read(3)
        raise OSError(28, "No space left on device")


class TestWholeOrAbsent:
    def test_a_write_that_fails_leaves_nothing(self, artifacts, folder):
        with pytest.raises(OSError, match="No space left"):
            artifacts.store.write("id-1", Failing(b"abcdef"))
        assert list(folder.iterdir()) == []

    def test_a_write_that_fails_leaves_what_was_there(self, artifacts, folder, file):
        artifacts.put("id-1", file)
        with pytest.raises(OSError, match="No space left"):
            artifacts.store.write("id-1", Failing(b"abcdef"))
        assert [path.name for path in folder.iterdir()] == ["id-1"]
        assert (folder / "id-1").read_bytes() == file.read_bytes()

    def test_until_it_is_whole_a_file_has_another_name(self, artifacts, folder, file, monkeypatch):
        seen = []
        replace = os.replace

        def look_and_replace(source, target):
            seen.append(([path.name for path in folder.iterdir()], source.read_bytes()))
            replace(source, target)

        monkeypatch.setattr(os, "replace", look_and_replace)
        artifacts.put("id-1", file)
        assert seen == [([".id-1.tmp"], file.read_bytes())]

    def test_its_bytes_are_on_the_disk_before_it_has_its_name(self, artifacts, file, monkeypatch):
        order = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle)))
        monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
        artifacts.put("id-1", file)
        assert order == ["fsync", "replace"]

    def test_what_a_dead_writer_left_is_written_over_and_removed(self, artifacts, folder, file):
        (folder / ".id-1.tmp").write_bytes(b"half a file that is longer than the whole one")
        artifacts.put("id-1", file)
        assert (folder / "id-1").read_bytes() == file.read_bytes()
        (folder / ".id-1.tmp").write_bytes(b"half")
        artifacts.remove("id-1")
        assert list(folder.iterdir()) == []

    def test_what_a_dead_writer_left_of_a_new_file_is_removed(self, artifacts, folder):
        (folder / ".id-1.tmp").write_bytes(b"half")
        artifacts.remove("id-1")
        assert list(folder.iterdir()) == []


class TestRefusals:
    def test_a_file_in_the_way_of_the_folder(self, tmp_path, file):
        with pytest.raises(StorageError, match=r"csv/artifacts: cannot make the artifact folder: Not a dir"):
            Artifacts.open(str(file / "artifacts"))

    def test_a_folder_that_cannot_be_made(self):
        with pytest.raises(StorageError, match="/proc/artifacts: cannot make the artifact folder"):
            Artifacts.open("/proc/artifacts")

    def test_a_full_disk_names_the_place_and_the_way_out(self, artifacts, folder, file, monkeypatch):
        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError) as caught:
            artifacts.put("id-1", file)
        assert str(caught.value) == (
            f"{folder}: cannot write: No space left on device; make room or choose another place with LMF_ARTIFACTS"
        )
        assert list(folder.iterdir()) == []

    def test_a_copy_that_cannot_be_written(self, artifacts, file, tmp_path):
        artifacts.put("id-1", file)
        with pytest.raises(StorageError, match=r"cannot copy to .*missing/copy: No such file"):
            artifacts.get("id-1", tmp_path / "missing" / "copy")

    def test_a_file_that_cannot_be_removed(self, artifacts, folder):
        (folder / "id-1").mkdir()
        with pytest.raises(StorageError, match="cannot remove a file: Is a directory"):
            artifacts.remove("id-1")

    @pytest.mark.parametrize("location", ["gs://bucket", "https://host/bucket"])
    def test_other_kinds_of_store_are_refused(self, location):
        with pytest.raises(StorageError, match=r"LMF_ARTIFACTS: \w+:// is not supported; expected a folder or s3://"):
            Artifacts.open(location)

    @pytest.mark.parametrize("location", ["s3://", "s3://bucket/prefix", "s3:///prefix"])
    def test_s3_takes_a_bucket_and_nothing_else(self, location):
        with pytest.raises(StorageError, match=f"LMF_ARTIFACTS: {location}: expected s3://BUCKET"):
            Artifacts.open(location)

    def test_s3_without_boto3_says_what_to_install(self, monkeypatch):
        def fail(_):
            raise ImportError("boto3")

        monkeypatch.setattr(optuna.artifacts, "Boto3ArtifactStore", fail)
        with pytest.raises(StorageError, match="s3:// needs boto3; install it with: pip install boto3"):
            Artifacts.open("s3://bucket")


class Bucket:
    """What Optuna's S3 store does, in memory; `broken` is raised instead, where it is set."""

    def __init__(self, name):
        self.name = name
        self.files = {}
        self.broken = None

    def _work(self):
        if self.broken is not None:
            raise self.broken

    def open_reader(self, artifact_id):
        self._work()
        if artifact_id not in self.files:
            raise ArtifactNotFound(artifact_id)
        return io.BytesIO(self.files[artifact_id])

    def write(self, artifact_id, body):
        self._work()
        self.files[artifact_id] = body.read()

    def remove(self, artifact_id):
        self._work()
        self.files.pop(artifact_id, None)


class BotoError(Exception):
    """What boto3 and botocore raise: not an OSError."""


class TestBucket:
    @pytest.fixture
    def bucket(self, monkeypatch):
        """A bucket in memory, and the names of boto3's errors."""
        for module, names in {
            "boto3": (),
            "boto3.exceptions": ("Boto3Error",),
            "botocore": (),
            "botocore.exceptions": ("BotoCoreError", "ClientError"),
        }.items():
            fake = ModuleType(module)
            for name in names:
                setattr(fake, name, type(name, (BotoError,), {}))
            monkeypatch.setitem(sys.modules, module, fake)
        monkeypatch.setattr(optuna.artifacts, "Boto3ArtifactStore", Bucket)
        return Artifacts.open("s3://bucket")

    def test_a_file_is_stored_given_back_and_removed(self, bucket, file, tmp_path):
        assert bucket.store.name == "bucket"
        bucket.put("id-1", file)
        assert bucket.get("id-1", tmp_path / "copy") is True
        assert (tmp_path / "copy").read_bytes() == file.read_bytes()
        bucket.remove("id-1")
        bucket.remove("id-1")
        assert bucket.get("id-1", tmp_path / "copy") is False

    def test_its_files_have_no_local_path(self, bucket):
        assert bucket.local_path("id-1") is None

    @pytest.mark.parametrize(
        "error", ["boto3.exceptions.Boto3Error", "botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError"]
    )
    def test_what_s3_refuses_is_one_line(self, bucket, file, tmp_path, error):
        module, name = error.rsplit(".", 1)
        bucket.store.broken = getattr(sys.modules[module], name)("AccessDenied\nfor this bucket")
        for call, text in (
            (lambda: bucket.put("id-1", file), "s3://bucket: cannot write: AccessDenied for this bucket"),
            (lambda: bucket.get("id-1", tmp_path / "copy"), "AccessDenied for this bucket"),
            (lambda: bucket.remove("id-1"), "s3://bucket: cannot remove a file: AccessDenied for this bucket"),
        ):
            with pytest.raises(StorageError) as caught:
                call()
            assert text in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_folder_store_is_optunas(folder):
    assert isinstance(Artifacts.open(str(folder)).store, FolderStore)
    assert isinstance(Artifacts.open(str(folder)).store, optuna.artifacts.FileSystemArtifactStore)
