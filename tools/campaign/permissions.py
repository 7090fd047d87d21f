"""Permissions of files that also bind the superuser."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

DAC = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of linux/capability.h
VERSION = 0x20080522


class NotHere(Exception):
    """Capabilities cannot be dropped here; the message says why."""


class _Header(ctypes.Structure):
    _fields_ = (('version', ctypes.c_uint32), ('pid', ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ('effective', 'permitted', 'inherited'))


@contextlib.contextmanager
def obeying() -> Iterator[None]:
    """Inside, this thread and those that it starts meet the permissions of files, as users do.

    The superuser passes over them by two capabilities, which are dropped and then taken back. Other
    users obey anyway.

    Raises:
        NotHere: this process is the superuser's and cannot drop capabilities.
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
        raise NotHere(f'needs capabilities of Linux, or a user other than root ({error})') from None
    before = data[0].effective
    for capability in DAC:
        data[0].effective &= ~(1 << capability)
    if call.capset(ctypes.byref(header), data):
        raise NotHere('this process may not drop capabilities')
    try:
        yield
    finally:
        data[0].effective = before
        call.capset(ctypes.byref(header), data)
