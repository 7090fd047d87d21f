"""Permissions that also bind the superuser, whom CI runs as."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import pytest

DAC = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of linux/capability.h
VERSION = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (('version', ctypes.c_uint32), ('pid', ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ('effective', 'permitted', 'inherited'))


@contextlib.contextmanager
def obeying_permissions() -> Iterator[None]:
    """Inside, this thread and those that it starts meet the permissions of files, as users do.

    The superuser passes over them by two capabilities, which are dropped and then taken back. Other
    users obey anyway. Skips the test where capabilities cannot be dropped.
    """
    if os.geteuid() != 0:
        yield
        return
    header, data = _Header(VERSION, 0), (_Data * 2)()
    try:
        call = ctypes.CDLL(None, use_errno=True)
        if call.capget(ctypes.byref(header), data):
            raise OSError(ctypes.get_errno(), 'capget')
    except (OSError, AttributeError) as error:
        pytest.skip(f'needs capabilities of Linux, or a user other than root ({error})')
    before = data[0].effective
    for capability in DAC:
        data[0].effective &= ~(1 << capability)
    if call.capset(ctypes.byref(header), data):
        pytest.skip('this process may not drop capabilities')
    try:
        yield
    finally:
        data[0].effective = before
        call.capset(ctypes.byref(header), data)
