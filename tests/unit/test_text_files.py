"""Text files of users: what is read, what is refused, and that a refusal reads nothing."""

import hashlib
import os
import socket

import pytest

from mdls_cosim.errors import ConfigError, StoreError
from mdls_cosim.text_files import decoded, read_bytes, read_text_file

TEXT = "20 µS\n\tsecond\nthird"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    mark = "\ufeff" if encoding.endswith(("-le", "-be")) else ""
    content = (mark + TEXT.replace("\n", end)).encode(encoding)
    path = tmp_path / "text"
    path.write_bytes(content)
    found = read_text_file(path)
    assert found.text == TEXT
    assert found.content_hash == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert found.path == str(path)


@pytest.mark.parametrize("content", [b"a\0b", b"\x89PNG\r\n\x1a\n\0", b"\x81\xfe", b"\xff\xfea", b"\xef\xbb\xbf\xff"])
def test_what_is_no_text_is_refused(content):
    with pytest.raises(ConfigError, match="the table is not a text file at data"):
        decoded(content, "data", "the table", error=ConfigError)


def test_the_size_is_limited(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"x" * 100)
    assert read_bytes(path, largest=100) == b"x" * 100
    with pytest.raises(
        StoreError, match=r'the table is too large at .*text: got "100 bytes", allowed at most 99 bytes'
    ):
        read_text_file(path, "the table", largest=99)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs files of stated size 0")
def test_the_size_is_limited_where_the_stated_one_is_wrong():
    assert os.stat("/proc/self/status").st_size == 0
    with pytest.raises(StoreError, match="more than 10 bytes"):
        read_text_file("/proc/self/status", largest=10)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    kinds = {"pipe": "named pipe", "link": "named pipe", "folder": "folder", "socket": "socket", "/dev/zero": "device"}
    for name, kind in kinds.items():
        with pytest.raises(StoreError, match=rf"cannot be read \(a {kind}\).*a regular file"):
            read_text_file(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none", tmp_path / "none" / "deeper"):
        with pytest.raises(StoreError, match=r"no such file at .*none"):
            read_text_file(path)
    with pytest.raises(StoreError, match="cannot be read"):
        read_text_file("a\0b")
    with pytest.raises(StoreError, match="cannot be read"):
        read_text_file("x" * 5000)
