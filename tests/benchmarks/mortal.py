"""`python mortal.py PROGRAM WORD…`: become that program, and be killed when whoever started us dies.

Linux only, by PR_SET_PDEATHSIG, which stays through the exec; elsewhere nothing but the exec.
"""

import ctypes
import os
import signal
import sys

if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - what it is for
