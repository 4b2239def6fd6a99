"""``python -m diart_mp``: the command line."""

from diart_mp.cli.main import main

main()
