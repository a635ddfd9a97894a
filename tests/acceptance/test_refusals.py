"""Bad input: one clear line, exit code 2, and nothing half-written."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from lmf_testing.cli import Lmf, run_lmf
from lmf_testing.postgres import Server

SHORT = ("--model", "test_efficientnet", "--weights", "none", "--image-size", "32", "--epochs", "1", "--workers", "1")


def nothing_is_left(home: Path) -> None:
    """No study is stored, and no file is there but an empty database, locks, and what the cache may keep for later."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.name.startswith("lmf.db")]
    left = [path for path in files if home / "cache" not in path.parents or path.name == "meta.json"]
    assert left == []
    if (home / "lmf.db").exists():
        engine = sa.create_engine(f"sqlite:///{home / 'lmf.db'}")
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM lmf_studies")) == 0
            assert connection.scalar(sa.text("SELECT count(*) FROM studies")) == 0
        engine.dispose()


def enormous_png(path: Path) -> None:
    """A small file that says that it holds 100,000 x 100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0" * 64
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(truncate, id="truncated"),
        pytest.param(garble, id="corrupt"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("no image at all"), id="not an image"),
        pytest.param(enormous_png, id="enormous"),
    ],
)
def test_a_broken_image_is_named(lmf: Lmf, skin: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(skin / "mel" / "mel-03.png")
    line = lmf("run", f"folder:{skin}", *SHORT).refusal()
    assert "mel/mel-03.png" in line
    assert "mel-04" not in line
    nothing_is_left(tmp_path / "home")


def test_several_broken_images_are_named_together(lmf: Lmf, skin: Path) -> None:
    for number in range(8):
        (skin / "mel" / f"mel-0{number}.png").write_bytes(b"")
    line = lmf("run", f"folder:{skin}", *SHORT).refusal()
    assert "mel/mel-00.png" in line
    assert "8" in line


def test_an_empty_class_folder_is_refused(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    (skin / "vasc").mkdir()
    assert "vasc" in lmf("run", f"folder:{skin}", *SHORT).refusal()
    nothing_is_left(tmp_path / "home")


def test_one_class_only_is_refused(lmf: Lmf, skin: Path) -> None:
    line = lmf("run", "folder", "--data", str(skin / "nv"), *SHORT).refusal()
    assert "folder" in line
    for name in ("mel", "df"):
        for path in (skin / name).iterdir():
            path.unlink()
        (skin / name).rmdir()
    assert "at least 2 classes" in lmf("run", "folder", "--data", str(skin), *SHORT).refusal()


def test_fewer_than_four_images_in_a_class_is_refused(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    for number in range(3, 6):
        (skin / "df" / f"df-0{number}.png").unlink()
    line = lmf("run", f"folder:{skin}", *SHORT).refusal()
    assert "df has 3" in line
    assert "at least 4" in line
    nothing_is_left(tmp_path / "home")


def table(skin: Path, change: Callable[[list[str]], list[str]]) -> Path:
    rows = [f"{path.relative_to(skin).as_posix()},{path.parent.name}" for path in sorted(skin.rglob("*.png"))]
    path = skin / "labels.csv"
    path.write_text("\n".join(["image,label", *change(rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda rows: [*rows, rows[0]], "df/df-00.png", id="duplicate row"),
        pytest.param(lambda rows: [*rows, "df/df-00.png,nv"], "df/df-00.png", id="two labels for one image"),
        pytest.param(lambda rows: [*rows, "df/df-77.png,df"], "df/df-77.png", id="no such image"),
        pytest.param(lambda rows: [*rows[1:], "df/df-00.png,"], "label", id="no label"),
        pytest.param(lambda rows: [*rows, "../outside.png,df"], "../outside.png", id="outside"),
        pytest.param(lambda rows: [*rows, "/etc/passwd,df"], "/etc/passwd", id="absolute"),
        pytest.param(lambda rows: [row for row in rows if "nv" in row], "at least 2 classes", id="one class"),
        pytest.param(lambda rows: rows[:3] + rows[6:], "df has 3", id="a class with three rows"),
        pytest.param(lambda rows: [], "", id="no rows"),
    ],
)
def test_a_bad_table_is_refused(
    lmf: Lmf, skin: Path, tmp_path: Path, change: Callable[[list[str]], list[str]], said: str
) -> None:
    (tmp_path / "outside.png").write_bytes((skin / "df" / "df-00.png").read_bytes())
    line = lmf("run", f"csv:{table(skin, change)}", *SHORT).refusal()
    assert said in line
    nothing_is_left(tmp_path / "home")


def test_a_class_that_the_table_lacks_is_told_by_its_columns(lmf: Lmf, skin: Path) -> None:
    path = skin / "labels.csv"
    path.write_text("image,diagnosis_code\ndf/df-00.png,df\n")
    assert "diagnosis_code" in lmf("run", f"csv:{path}", *SHORT).refusal()


def test_a_missing_and_a_wrong_kind_of_data_folder(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in lmf("run", f"folder:{tmp_path / 'nowhere'}", *SHORT).refusal()
    assert "nv-00.png" in lmf("run", f"folder:{skin / 'nv' / 'nv-00.png'}", *SHORT).refusal()
    assert "ham12345" in lmf("run", "ham12345", "--data", str(skin), *SHORT).refusal()


@pytest.mark.parametrize("place", ["/proc/lmf", "/dev/null/lmf"])
def test_a_home_that_cannot_be_written(lmf: Lmf, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("LMF_HOME", place)
    line = lmf("run", "digits-lt", *SHORT).refusal()
    assert place in line
    assert "LMF_HOME" in line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a SQLAlchemy URL"),
        ("mysql://user:hidden@host/db", "mysql is not supported"),
        ("sqlite://", "in-memory"),
        ("postgresql+psycopg://lmf:hidden@127.0.0.1:1/lmf", "127.0.0.1"),
        ("postgresql+nodriver://lmf:hidden@127.0.0.1:1/lmf", "driver"),
    ],
)
def test_a_bad_url_is_refused(lmf: Lmf, monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv("LMF_STORAGE", url)
    line = lmf("run", "digits-lt", *SHORT).refusal()
    assert said in line
    assert "hidden" not in line


def test_a_wrong_password_is_refused_and_shown_nowhere(
    lmf: Lmf, monkeypatch: pytest.MonkeyPatch, postgres: Server
) -> None:
    monkeypatch.setenv("LMF_STORAGE", postgres.url(password="s3cret-and-wrong"))
    for command in (("run", "digits-lt", *SHORT), ("status",), ("worker",)):
        line = lmf(*command).refusal()
        assert "password authentication failed" in line
        assert "s3cret" not in line


def test_a_database_of_a_newer_schema_is_refused(lmf: Lmf, tmp_path: Path) -> None:
    from storage.database import Database

    url = f"sqlite:///{tmp_path / 'newer.db'}"
    database = Database.open(url)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE lmf_alembic_version SET version_num = '9999'"))
    database.close()
    for command in (("status", "--storage", url), ("run", "digits-lt", "--storage", url, *SHORT)):
        line = lmf(*command).refusal()
        assert "9999" in line
        assert "newer" in line


def test_no_database_yet(lmf: Lmf, tmp_path: Path) -> None:
    for command in (("status",), ("report",), ("export",), ("study", "list"), ("worker",)):
        assert "no database" in lmf(*command).refusal()
    assert not (tmp_path / "home").exists()


def test_all_problems_of_a_study_file_come_together(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        f'[study]\ndataset = "folder:{skin}"\ngrid = [0.5, 2.5]\nseeds = "x"\n'
        "[recipe]\nepochs = 0\nlearning_rate = 1\n[run]\nworkers = 0\n"
    )
    line = lmf("run", str(path)).refusal()
    for said in ("2.5 is outside [0.5, 2.0]", "seeds", "epochs", "learning_rate", "workers"):
        assert said in line


def test_flags_are_checked(lmf: Lmf, skin: Path) -> None:
    assert "--grid: 2.5 is outside [0.5, 2.0]" in lmf("run", "digits-lt", "--grid", "2.5").refusal()
    assert "resnet51" in lmf("run", f"folder:{skin}", "--model", "resnet51").refusal()
    assert "--nonsense" in lmf("run", "digits-lt", "--nonsense", "1").refusal()
    assert "no GPU" not in lmf("run", "digits-lt", "--device", "cuda:99", *SHORT).refusal()
    assert "--weights" in lmf("run", "digits-lt", *SHORT, "--weights", "/nowhere/at.all").refusal()
    assert "--json" in lmf("status", "--json", "--watch").refusal()


def test_an_unreachable_hub_says_both_ways_out(skin: Path, tmp_path: Path) -> None:
    command = ("run", f"folder:{skin}", "--model", "resnet18", "--epochs", "1")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    line = run_lmf(tmp_path / "home", *command, changes=offline).refusal()
    assert "--weights FILE" in line
    assert "--weights none" in line
