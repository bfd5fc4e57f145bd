# SPDX-License-Identifier: Apache-2.0
"""The table of XIDs as playbooks see it: one answer for every XID, the same as the service's."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.faultline.gpu.plugins.filter.xid import xid_profile
from ansible_collections.faultline.gpu.plugins.module_utils import _xid
from faultline_service import profiles


def test_playbooks_and_the_service_agree_on_every_xid() -> None:
    for xid in range(1, 1001):
        row, theirs = _xid.profile(xid), profiles.profile(xid)
        assert (row["xid"], row["live_code"]) == (xid, theirs.live_code)
        assert row["nvsentinel"] == {"action": theirs.action, "fatal": theirs.fatal}, xid


def test_an_xid_may_come_as_text_from_a_command_line() -> None:
    assert xid_profile("79")["name"] == _xid.profile(79)["name"]


@pytest.mark.parametrize("wrong", [0, 1001, "", "seventy-nine", None, "7.9"])
def test_what_is_no_xid_is_refused_with_a_sentence(wrong: object) -> None:
    with pytest.raises(AnsibleFilterError, match="number from 1 to 1000"):
        xid_profile(wrong)
