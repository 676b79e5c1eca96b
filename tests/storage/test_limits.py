from __future__ import annotations

from storage import limits


def test_group_limits__inner_and_outer(tmp_path):
    inner = tmp_path / "sys" / "job" / "step"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("4000000000\n")
    (tmp_path / "sys" / "memory.max").write_text("9000000000\n")
    membership = tmp_path / "cgroup"
    membership.write_text("12:cpu:/old\n0::/job/step\n")
    assert sorted(limits.group_limits(membership, tmp_path / "sys")) == [4000000000, 9000000000]


def test_group_limits__elsewhere(tmp_path):
    assert limits.group_limits(tmp_path / "nothing", tmp_path) == []
    (tmp_path / "old").write_text("12:memory:/a\n")
    assert limits.group_limits(tmp_path / "old", tmp_path) == []
