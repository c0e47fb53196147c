import os

import pytest

from gcf.errors import GcfError, RefusedError, UsageError
from gcf.extract.decoding.find import find_videos


def touch(root, *names):
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")


def ids(*sources):
    return [v.id for v in find_videos(sources)]


def test_a_folder_is_searched_whole_and_ids_are_sorted_relative_paths(tmp_path):
    touch(tmp_path, "b/2.mp4", "a/1.AVI", "a/deep/er/3.webm", "labels.csv", "a/notes.txt", ".hidden.mp4", "top.mkv")
    assert ids(tmp_path) == ["a/1.AVI", "a/deep/er/3.webm", "b/2.mp4", "top.mkv"]


def test_a_folder_may_be_named_in_any_way(tmp_path, monkeypatch):
    touch(tmp_path, "v/a/1.avi")
    monkeypatch.chdir(tmp_path)
    for name in ("v", "v/", "./v//", str(tmp_path / "v") + "/", "v/../v"):
        assert ids(name) == ["a/1.avi"]
    monkeypatch.chdir(tmp_path / "v")
    assert ids(".") == ["a/1.avi"]


def test_two_videos_of_one_name_in_different_folders_are_two_videos(tmp_path):
    touch(tmp_path, "a/v.mp4", "b/v.mp4")
    assert ids(tmp_path) == ["a/v.mp4", "b/v.mp4"]
    assert ids(tmp_path / "a" / "v.mp4", tmp_path / "b" / "v.mp4") == ["a/v.mp4", "b/v.mp4"]


def test_odd_names_stay_byte_for_byte(tmp_path):
    names = [
        b"\xff\xfe.mp4",
        "é.mp4".encode(),
        "e\u0301.mp4".encode(),
        b"new\nline.mp4",
        b"-i.mp4",
        b"x" * 247 + b".mp4",
    ]
    touch(tmp_path, *names)
    assert sorted(os.fsencode(i) for i in ids(tmp_path)) == sorted(names)
    assert all(os.path.exists(v.path) for v in find_videos([tmp_path]))


def test_link_loops_end_and_links_are_followed(tmp_path):
    touch(tmp_path, "real/1.mp4", "elsewhere/2.mp4")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "real" / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    assert ids(tmp_path / "real") == ["1.mp4", "dangling.mp4", "linked/2.mp4"]


def test_two_links_to_one_folder_are_two_classes(tmp_path):
    touch(tmp_path, "real/x.avi")
    (tmp_path / "v").mkdir()
    for name in ("a", "b"):
        (tmp_path / "v" / name).symlink_to(tmp_path / "real")
    assert ids(tmp_path / "v") == ["a/x.avi", "b/x.avi"]


def test_a_row_that_names_no_video_is_an_error_with_its_line(tmp_path):
    touch(tmp_path, "v/1.mp4")
    (tmp_path / "list.csv").write_text("label,path\n,v/1.mp4\nrun\n")
    with pytest.raises(GcfError, match=r"list\.csv, line 3: names no video"):
        find_videos([tmp_path / "list.csv"])
    (tmp_path / "list.csv").write_text("label,path\n,v/1.mp4\n\n")
    assert ids(tmp_path / "list.csv") == ["v/1.mp4"]


def test_what_only_bears_a_videos_name_is_found_so_that_it_can_be_reported(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    touch(tmp_path, "sound.mp3", "list.m3u8")
    assert ids(tmp_path) == ["folder.mp4", "list.m3u8", "pipe.mp4", "sound.mp3"]


def test_lists_name_videos_relative_to_themselves(tmp_path):
    touch(tmp_path, "v/1.mp4", "v/2, two.mp4")
    (tmp_path / "list.txt").write_text("v/1.mp4\n\nv/2, two.mp4\n")
    (tmp_path / "list.csv").write_text('label,path\nrun,v/1.mp4\njump,"v/2, two.mp4"\n')
    for name in ("list.txt", "list.csv"):
        assert ids(tmp_path / name) == ["v/1.mp4", "v/2, two.mp4"]


def test_a_list_that_leads_out_of_its_folder_takes_the_common_folder_as_root(tmp_path):
    touch(tmp_path, "data/a/1.mp4", "data/b/2.mp4")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text(f"../data/a/1.mp4\n{tmp_path}/data/b/2.mp4\n")
    assert ids(tmp_path / "lists" / "l.txt") == ["a/1.mp4", "b/2.mp4"]


def test_a_list_of_which_no_video_exists_is_refused_and_one_that_has_any_is_not(tmp_path):
    (tmp_path / "list.txt").write_text("v/1.mp4\nv/2.mp4\n")
    (tmp_path / "list.csv").write_text("label,path\nrun,v/1.mp4\njump,v/2.mp4\n")
    for name in ("list.txt", "list.csv"):
        with pytest.raises(RefusedError, match=r"none of its 2 videos exists") as caught:
            find_videos([tmp_path / name])
        assert f"{tmp_path / name}: " in str(caught.value)
        assert f"such as '{tmp_path}/v/1.mp4'" in str(caught.value)
    touch(tmp_path, "v/2.mp4")
    for name in ("list.txt", "list.csv"):
        assert ids(tmp_path / name) == ["v/1.mp4", "v/2.mp4"]


def test_no_videos_is_an_error_that_names_the_place(tmp_path):
    touch(tmp_path, "notes.txt2")
    with pytest.raises(GcfError, match="no videos found") as caught:
        find_videos([tmp_path])
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UsageError):
        find_videos([])
    with pytest.raises(UsageError, match="one folder, or files"):
        find_videos([tmp_path, tmp_path])
