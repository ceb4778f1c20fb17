"""Editing a folder: checked as a whole before anything is written, and never over somebody else's change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from containarium.sources import editfile
from containarium.sources.directory import load
from containarium.sources.edit import EditRefusedError, ManifestRefusedError, Session
from containarium.sources.edittext import AddItem, SetField
from tests.builders import public_key

MEMORY = ("spec", "resources", "memory")


def text_of(name: str, key: str = "") -> str:
    return (
        "apiVersion: containarium.dev/v1\nkind: Environment\n"
        f"metadata: {{name: {name}}}\nspec:\n  sshKeys: [{key or public_key(name)}]\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Alice in a file of her own; bob, a host, and carol in another."""
    folder = tmp_path / "environments"
    (folder / "team").mkdir(parents=True)
    (folder / "alice.yaml").write_text(text_of("alice"))
    host = "apiVersion: containarium.dev/v1\nkind: Host\nmetadata: {name: h}\n"
    (folder / "team" / "web.yaml").write_text(f"# the web team\n{text_of('bob')}---\n{host}---\n{text_of('carol')}")
    return folder


def names(folder: Path) -> list[str]:
    return [manifest.name for manifest in load(folder).manifests]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_of_several_documents_is_changed(folder: Path) -> None:
    session = Session(folder)
    session.change("carol", [SetField(MEMORY, "2GiB")])
    assert session.commit() == (folder / "team" / "web.yaml",)
    assert (folder / "team" / "web.yaml").read_text() == (
        f"# the web team\n{text_of('bob')}---\napiVersion: containarium.dev/v1\nkind: Host\nmetadata: {{name: h}}\n"
        f"---\n{text_of('carol')}  resources: {{memory: 2GiB}}\n"
    )


def test_several_changes_are_made_together(folder: Path) -> None:
    session = Session(folder)
    for name in ("alice", "bob", "carol"):
        session.change(name, [SetField(("spec", "running"), False)])
    session.drop("bob")
    session.create("dave.yaml", text_of("dave"))
    session.commit()
    assert names(folder) == ["alice", "carol", "dave"]
    assert [m.environment.spec.running for m in load(folder).manifests] == [False, False, True]


def test_the_last_document_takes_its_file_along(folder: Path) -> None:
    session = Session(folder)
    session.drop("alice")
    session.commit()
    assert not (folder / "alice.yaml").exists()


@pytest.mark.parametrize("value", ["8G", "1MiB", "lots"])
def test_what_would_not_load_is_not_written(folder: Path, value: str) -> None:
    before = bytes_of(folder)
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.change("carol", [SetField(MEMORY, value)])
    with pytest.raises(ManifestRefusedError) as refused:
        session.commit()
    assert refused.value.problem.environment == "carol"
    assert refused.value.problem.field == "spec.resources.memory"
    assert bytes_of(folder) == before


def test_a_key_of_somebody_else_is_found_in_another_file(folder: Path) -> None:
    session = Session(folder)
    session.change("alice", [AddItem(("spec", "sshKeys"), public_key("bob"))])
    with pytest.raises(ManifestRefusedError, match="is another person's"):
        session.check()


@pytest.mark.parametrize(("name", "owner"), [("alice", "bob"), ("carol", "bob"), ("carol", "alice")])
def test_whose_key_it_is_is_told_to_who_is_edited(folder: Path, name: str, owner: str) -> None:
    session = Session(folder)
    session.change(name, [AddItem(("spec", "sshKeys"), public_key(owner))])
    with pytest.raises(ManifestRefusedError, match=rf"is another person's: {owner} at") as refused:
        session.check()
    assert refused.value.problem.environment == name


def test_whose_key_it_is_is_told_to_who_is_new(folder: Path) -> None:
    session = Session(folder)
    session.create("zoe.yaml", text_of("zoe", public_key("bob")))
    with pytest.raises(ManifestRefusedError, match="is another person's: bob at"):
        session.check()


def test_a_mistake_elsewhere_in_the_file_is_told_with_its_file(folder: Path) -> None:
    path = folder / "team" / "web.yaml"
    path.write_text(path.read_text() + "---\nkind: Environment\nmetadata: {name: dave, name: eve}\n")
    line = path.read_text().count("\n")
    with pytest.raises(EditRefusedError) as refused:
        Session(folder).change("bob", [SetField(MEMORY, "2GiB")])
    assert str(refused.value).startswith(f"{path}:{line}:24: metadata.name: 'name' is written twice")
    assert "\n" not in str(refused.value)


MARK = "# Written by hand"


def test_further_documents_go_to_the_end_of_a_file(folder: Path) -> None:
    path = folder / "class.yaml"
    before = f"{MARK} on Monday\n{text_of('dave')}# tail"
    path.write_text(before)
    session = Session(folder)
    session.append("class.yaml", text_of("eve"), MARK)
    session.append("other.yaml", text_of("frank"), MARK)
    assert session.commit() == (path, folder / "other.yaml")
    assert path.read_text() == f"{before}\n---\n{text_of('eve')}"
    assert names(folder) == ["alice", "bob", "carol", "dave", "eve", "frank"]


def test_further_documents_have_the_line_ends_of_the_file(folder: Path) -> None:
    path = folder / "class.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + f"{MARK}\n{text_of('dave')}".replace("\n", "\r\n").encode())
    before = path.read_bytes()
    session = Session(folder)
    session.append("class.yaml", text_of("eve"), MARK)
    session.commit()
    assert path.read_bytes() == before + f"---\n{text_of('eve')}".replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (text_of("dave"), "exists already, and was written by somebody else"),
        (f"{MARK}\n{text_of('dave')}---\na: b: c\n", r"class\.yaml:8:"),
        (f"{MARK}\n{text_of('dave')}  text: |+\n   x\n\n...\n# after\n... x", r"class\.yaml"),
        (f"{MARK}\n{text_of('eve')}", "the name eve is taken"),
    ],
)
def test_a_file_that_is_not_of_the_kind_gets_nothing(folder: Path, there: str, told: str) -> None:
    (folder / "class.yaml").write_text(there)

    def add() -> None:
        session = Session(folder)
        session.append("class.yaml", text_of("eve"), MARK)
        session.commit()

    with pytest.raises(EditRefusedError, match=told) as refused:
        add()
    assert "move" not in str(refused.value)
    assert (folder / "class.yaml").read_text() == there


def test_a_file_that_would_be_too_large_to_load_is_not_written(folder: Path) -> None:
    session = Session(folder)
    session.create("dave.yaml", text_of("dave") + "#" * (1 << 20))
    with pytest.raises(EditRefusedError, match=r"dave\.yaml would be larger than 1024 KiB"):
        session.commit()
    assert not (folder / "dave.yaml").exists()


def test_a_mistake_that_was_there_before_does_not_stand_in_the_way(folder: Path) -> None:
    (folder / "dave.yaml").write_text(text_of("dave") + "  nonsense: 1\n")
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.commit()
    assert names(folder) == ["alice", "bob", "carol"]


def test_a_mistake_in_the_same_file_that_moves_is_no_new_one(folder: Path) -> None:
    path = folder / "team" / "web.yaml"
    path.write_text(path.read_text() + "---\n" + text_of("dave") + "  nonsense: 1\n")
    session = Session(folder)
    session.change("bob", [SetField(MEMORY, "2GiB")])
    session.commit()
    assert "resources: {memory: 2GiB}" in path.read_text()


def test_who_does_not_load_is_not_edited(folder: Path) -> None:
    (folder / "alice.yaml").write_text(text_of("alice") + "  nonsense: 1\n")
    with pytest.raises(EditRefusedError, match=r"alice has a manifest that does not load: .*alice.yaml:6:3"):
        Session(folder).change("alice", [SetField(MEMORY, "2GiB")])


def test_nobody_is_told(folder: Path) -> None:
    with pytest.raises(EditRefusedError, match=r"no manifest in .* names dave"):
        Session(folder).find("dave")


@pytest.mark.parametrize("how", ["written", "replaced", "removed", "linked"])
def test_a_file_that_changed_meanwhile_is_not_written_over(folder: Path, how: str) -> None:
    path = folder / "alice.yaml"
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.create("dave.yaml", text_of("dave"))
    theirs = text_of("alice") + "  docker: true\n"
    if how == "written":
        path.write_text(theirs)
    else:
        path.unlink()
    if how == "replaced":
        path.write_text(theirs)
    if how == "linked":
        (folder / ".real").write_text(theirs)
        path.symlink_to(".real")
    before = bytes_of(folder)
    with pytest.raises((EditRefusedError, OSError)):
        session.commit()
    assert bytes_of(folder) == before


def test_what_was_written_already_is_taken_back(folder: Path) -> None:
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.create("dave.yaml", text_of("dave"))
    session.change("bob", [SetField(MEMORY, "2GiB")])
    web = folder / "team" / "web.yaml"
    web.write_text(web.read_text() + "# somebody was here\n")
    before = bytes_of(folder)
    with pytest.raises(EditRefusedError, match="was changed by somebody else meanwhile"):
        session.commit()
    assert bytes_of(folder) == before


def test_a_new_file_takes_nobodys_place(folder: Path) -> None:
    session = Session(folder)
    session.create("dave.yaml", text_of("dave"))
    (folder / "dave.yaml").write_text("theirs")
    with pytest.raises(EditRefusedError, match="exists already; look at it and run the command again"):
        session.commit()
    assert (folder / "dave.yaml").read_text() == "theirs"
    with pytest.raises(EditRefusedError, match="exists already") as refused:
        Session(folder).create("dave.yaml", text_of("dave"))
    assert "move" not in str(refused.value), "who moves manifests away withdraws them"


def test_mode_and_owner_stay(folder: Path) -> None:
    path = folder / "alice.yaml"
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    before = path.stat()
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.commit()
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert sorted(p.name for p in folder.iterdir()) == ["alice.yaml", "team"], "nothing is left lying about"


def test_a_link_inside_the_folder_is_followed_and_stays_a_link(folder: Path) -> None:
    (folder / ".data").mkdir()
    (folder / "alice.yaml").rename(folder / ".data" / "alice.yaml")
    (folder / "alice.yaml").symlink_to(".data/alice.yaml")
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.commit()
    assert (folder / "alice.yaml").is_symlink()
    assert "2GiB" in (folder / ".data" / "alice.yaml").read_text()
    assert str(load(folder).manifests[0].environment.spec.resources.memory) == "2GiB"


@pytest.fixture
def linked(folder: Path) -> Path:
    """Alice's file is a link to one inside the folder."""
    (folder / ".store").mkdir()
    (folder / "alice.yaml").rename(folder / ".store" / "alice.yaml")
    (folder / "alice.yaml").symlink_to(".store/alice.yaml")
    return folder


def test_a_link_goes_with_its_file_and_the_folder_still_loads(linked: Path) -> None:
    session = Session(linked)
    session.drop("alice")
    session.commit()
    assert not os.path.lexists(linked / "alice.yaml")
    assert not (linked / ".store" / "alice.yaml").exists()
    found = load(linked)
    assert (found.complete, found.problems) == (True, ())
    session = Session(linked)
    session.drop("bob")
    session.commit()
    assert names(linked) == ["carol"]


def test_a_link_to_several_stays_while_one_of_them_does(folder: Path) -> None:
    (folder / ".store").mkdir()
    (folder / "team" / "web.yaml").rename(folder / ".store" / "web.yaml")
    (folder / "team" / "web.yaml").symlink_to("../.store/web.yaml")
    session = Session(folder)
    session.drop("bob")
    session.commit()
    assert names(folder) == ["alice", "carol"]
    assert (folder / "team" / "web.yaml").is_symlink()


def test_a_link_that_leads_elsewhere_meanwhile_is_somebody_elses(linked: Path) -> None:
    session = Session(linked)
    session.drop("alice")
    (linked / ".store" / "new.yaml").write_text(text_of("alice"))
    (linked / "alice.yaml").unlink()
    (linked / "alice.yaml").symlink_to(".store/new.yaml")
    with pytest.raises(EditRefusedError, match=r"alice\.yaml was changed by somebody else meanwhile"):
        session.commit()
    assert (linked / ".store" / "alice.yaml").exists()
    assert names(linked) == ["alice", "bob", "carol"]


def test_a_link_is_put_back_where_its_file_cannot_go(linked: Path) -> None:
    session = Session(linked)
    session.drop("alice")
    store = linked / ".store" / "alice.yaml"
    store.write_text(text_of("alice") + "  docker: true\n")
    with pytest.raises(EditRefusedError, match="was changed by somebody else meanwhile"):
        session.commit()
    assert (linked / "alice.yaml").readlink() == Path(".store/alice.yaml")
    assert names(linked) == ["alice", "bob", "carol"]


def test_a_key_file_is_checked_with_the_rest(folder: Path) -> None:
    (folder / "keys").mkdir()
    (folder / "keys" / "alice.pub").write_text(f"{public_key('alice')}\n")
    (folder / "alice.yaml").write_text(text_of("alice", "{file: keys/alice.pub}"))
    session = Session(folder)
    session.write_key_file("keys/alice.pub", f"{public_key('bob')}\n")
    with pytest.raises(ManifestRefusedError, match="is another person's"):
        session.commit()
    session = Session(folder)
    session.write_key_file("keys/alice.pub", f"# new\n{public_key('second')}\n")
    session.commit()
    assert (folder / "keys" / "alice.pub").read_text() == f"# new\n{public_key('second')}\n"


def test_a_file_that_leads_out_is_not_edited(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.pub").write_text(public_key("x"))
    (folder / "keys").mkdir()
    (folder / "keys" / "alice.pub").symlink_to(tmp_path / "outside.pub")
    with pytest.raises(EditRefusedError, match="leads out of the folder"):
        Session(folder).write_key_file("keys/alice.pub", "x")


def test_byte_order_mark_and_line_ends_stay(folder: Path) -> None:
    path = folder / "alice.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text_of("alice").replace("\n", "\r\n").encode())
    before = path.read_bytes()
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    session.commit()
    assert path.read_bytes() == before + b"  resources: {memory: 2GiB}\r\n"


def test_a_disk_that_is_full_leaves_everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = bytes_of(folder)
    session = Session(folder)
    session.change("alice", [SetField(MEMORY, "2GiB")])
    with pytest.raises(OSError, match="No space left") as told:
        session.commit()
    assert told.value.filename == str(folder / "alice.yaml")
    assert bytes_of(folder) == before


def test_only_plain_files_of_a_sane_size_are_read(folder: Path) -> None:
    path = folder / "big"
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(EditRefusedError, match="larger than"):
        editfile.content(path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(EditRefusedError, match="not a plain file"):
        editfile.content(folder / "pipe")


def test_documents_are_found_however_they_are_written(folder: Path) -> None:
    data = yaml.safe_load(text_of("eve"))
    (folder / "eve.yaml").write_text(f"# json\n--- {yaml.safe_dump(data, default_flow_style=True, width=9999)}")
    session = Session(folder)
    session.change("eve", [SetField(MEMORY, "2GiB")])
    session.commit()
    assert names(folder) == ["alice", "bob", "carol", "eve"]
