"""Finding and cutting the damage in an append-only file."""

from pathlib import Path

from chaos.aof_repair import damage, repair

SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n*1\r\n"
"""Its value looks like the end of one command and the beginning of another."""


def test_sound_file_and_one_whose_end_is_cut_are_left_to_the_server() -> None:
    assert damage(b"") is None
    assert damage(SET * 3) is None
    assert {damage((SET * 2)[:-cut]) for cut in range(1, len(SET))} == {None}


def test_hole_of_zeros_is_found_where_it_begins(tmp_path: Path) -> None:
    holed = SET * 2 + b"\0" * 100 + SET
    assert damage(holed) == 2 * len(SET)
    file = tmp_path / "appendonlydir" / "appendonly.aof.9.incr.aof"
    file.parent.mkdir()
    file.write_bytes(holed)
    repair(tmp_path)
    assert file.read_bytes() == SET * 2


def test_command_that_is_broken_off_within_the_file_is_cut_as_a_whole() -> None:
    assert damage(SET + SET[:14] + SET) == len(SET)
