"""``python -m orchestrator`` is the ``tlmt`` command, for developers in a checkout."""

from orchestrator.cli import main

main()
