"""`python -m iu_core` is `iu`."""

from iu_core.cli.main import main

main()
